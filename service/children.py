"""Child processes for single jobs, which would hold up the process that predicts."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from service.child import as_bytes, head_line
from service.operations.settings import ONE_THREAD, ROOT

PART_BYTES = 1024 * 1024  # of an array that is sent


class ChildFailed(Exception):
    """A child that ended with an error, or by a signal."""


async def run_child(module: str, job: Mapping[str, Any], arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Run a module on a job; return what it wrote. It is killed when this is cancelled. Raises `ChildFailed`."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended; its status says why
            await _send_job(child, job, arrays)
        result, errors = await child.communicate()
    finally:
        if child.returncode is None:  # too slow, or the client has gone
            child.kill()
            await child.wait()
    if child.returncode:
        raise ChildFailed(f"{module} ended with {child.returncode}: {errors.decode(errors='replace')[-2000:]}")
    return result


async def _send_job(
    child: asyncio.subprocess.Process, job: Mapping[str, Any], arrays: Mapping[str, npt.ArrayLike]
) -> None:
    """Send the arrays in parts: as one file they would be in memory once more."""
    assert child.stdin is not None
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    child.stdin.write(head_line(job, contiguous))
    for array in contiguous.values():
        content = as_bytes(array)
        for start in range(0, len(content), PART_BYTES):
            child.stdin.write(content[start : start + PART_BYTES])
            await child.stdin.drain()
