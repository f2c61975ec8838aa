"""Metrics, plots and reports of an evaluation, made in a child process.

Drawing holds the interpreter for seconds and matplotlib takes 100 MB: the process that predicts has to stay free of
both. A child (`service.evaluation_worker`) is started for each request, one at a time.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from photoz.estimates import Estimates
from photoz.grid import RedshiftGrid
from photoz.inference.batch import Batch
from photoz.protocol import contract
from service.middleware.concurrency import ConcurrencyLimit
from service.middleware.errors import EvaluationTimeout
from service.operations.settings import ONE_THREAD, ROOT
from service.validation import LabelledGalaxies

PART_BYTES = 1024 * 1024  # of an array that is sent to the child

# Evaluations that run or wait, in all and of one client: the last of them waits for minutes at worst.
MAX_QUEUED, MAX_OF_CLIENT = 12, 8


class Evaluator:
    """Runs one evaluation at a time, each in at most `timeout` seconds."""

    def __init__(self, grid: RedshiftGrid, model_label: str, timeout: float) -> None:
        self._grid = {"z_max": grid.z_max, "n_bins": grid.n_bins}
        self._model_label = model_label
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._queued = ConcurrencyLimit("evaluations run or wait", MAX_QUEUED, MAX_OF_CLIENT)

    async def evaluate(
        self,
        galaxies: LabelledGalaxies,
        estimates: Estimates,
        options: contract.EvaluateOptions,
        media_type: str,
        client: str,
    ) -> Response:
        """Evaluate estimates with PDFs: JSON for metrics, PNG or SVG for a plot, HTML for a report.

        Raises `EvaluationTimeout` if it took too long, `TooManyRequests` if too many wait, of this client or in all.
        """
        self._queued.check(client)
        with self._queued.count(client):
            return await self._evaluate(galaxies, estimates, options, media_type)

    async def _evaluate(
        self, galaxies: LabelledGalaxies, estimates: Estimates, options: contract.EvaluateOptions, media_type: str
    ) -> Response:
        arrays: dict[str, npt.ArrayLike] = {"pdfs": np.asarray(estimates.pdf), "z_spec": galaxies.z_spec}
        named = {**arrays, "object_id": galaxies.object_id}
        match media_type:
            case contract.JSON:
                content = self._message(galaxies, await self._run("scores", arrays))
            case contract.HTML:
                shown = named | {"flags": estimates.flags} | _magnitudes(galaxies)
                content = await self._run("report", shown, **self._texts(galaxies))
            case _:
                format = "svg" if media_type == contract.SVG else "png"
                details = options.model_dump() | {"plot": options.plot or "scatter", "format": format}
                content = await self._run("plot", named, **details)
        return Response(content, media_type=media_type)

    def _message(self, galaxies: LabelledGalaxies, scores: bytes) -> bytes:
        message = contract.EvaluateResponse(
            model=self._model_label,
            n_galaxies=len(galaxies.z_spec),
            scores=json.loads(scores),
            dropped=list(galaxies.dropped),
        )
        return message.model_dump_json().encode()

    def _texts(self, galaxies: LabelledGalaxies) -> dict[str, str]:
        predicted = isinstance(galaxies.source, Batch)
        origin = f"predicted by {self._model_label}" if predicted else "with PDFs as they were sent"
        description = f"{len(galaxies.z_spec):,} galaxies, {origin}."
        if galaxies.dropped:
            description += f" {len(galaxies.dropped):,} others were left out: their true redshift is not on the grid."
        return {"title": "Evaluation of photometric redshifts", "description": description}

    async def _run(self, task: str, arrays: Mapping[str, npt.ArrayLike], **details: Any) -> bytes:
        job = {"task": task, "grid": self._grid, **details}
        try:
            async with self._lock:
                return await asyncio.wait_for(_run_child(job, arrays), self._timeout)
        except TimeoutError as error:
            raise EvaluationTimeout(f"this took longer than {self._timeout:g} s: try fewer galaxies") from error


def _magnitudes(galaxies: LabelledGalaxies) -> dict[str, npt.ArrayLike]:
    return {} if galaxies.magnitudes is None else {"magnitudes": galaxies.magnitudes}


async def _run_child(job: Mapping[str, Any], arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.evaluation_worker"),
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
        raise RuntimeError(f"the evaluation ended with {child.returncode}: {errors.decode(errors='replace')[-2000:]}")
    return result


async def _send_job(
    child: asyncio.subprocess.Process, job: Mapping[str, Any], arrays: Mapping[str, npt.ArrayLike]
) -> None:
    """Send a line of JSON, and the bytes of the arrays in parts: as one file they would be in memory once more."""
    assert child.stdin is not None
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    described = {name: (array.dtype.str, array.shape) for name, array in contiguous.items()}
    child.stdin.write(json.dumps({**job, "arrays": described}).encode() + b"\n")
    for array in contiguous.values():
        content = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(content), PART_BYTES):
            child.stdin.write(content[start : start + PART_BYTES])
            await child.stdin.drain()
