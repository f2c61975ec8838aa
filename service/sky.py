"""Cutouts of a position on the sky, out of an archive, by the command `photoz sky`: where the operator allows it."""

import asyncio
import os
import shlex
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from photoz.errors import InvalidInput
from photoz.protocol.contract import SkyRequest
from service.middleware.concurrency import ConcurrencyLimit
from service.middleware.errors import ArchiveFailed, NotOffered, RequestTimeout
from service.operations.settings import ROOT
from service.request import Request

COMMAND = (sys.executable, "-c", "from photoz_client.cli import main; main()", "sky")
PACKAGES = ("astroquery", "photoz_client", "photoz_survey", "reproject")

# A field has five frames of 4 MB.
SECONDS = 120

# Positions that are looked up or wait, in all and of one client; one at a time is looked up.
MAX_QUEUED, MAX_OF_CLIENT = 8, 4


def check_options(options: str | None) -> None:
    """Raise `InvalidInput` if the command cannot be run here."""
    missing = [name for name in PACKAGES if find_spec(name) is None] if options is not None else []
    if missing:
        raise InvalidInput(f"PHOTOZ_SKY needs {', '.join(missing)}: install photoz[sky]")


class Archive:
    """The archive of the options of `photoz sky`; without options there is none."""

    def __init__(self, options: str | None) -> None:
        self._options = None if options is None else shlex.split(options)
        self._lock = asyncio.Lock()
        self._queued = ConcurrencyLimit("positions are looked up or wait", MAX_QUEUED, MAX_OF_CLIENT)

    async def cut_out(self, request: Request, position: SkyRequest) -> bytes:
        """Return an HDF5 file with the cutout at a position.

        Raises `NotOffered`, `ArchiveFailed` with the reason of the command, `TooManyRequests` or `RequestTimeout`.
        """
        if self._options is None:
            raise NotOffered("this service does not reach an archive: its operator may allow that, with PHOTOZ_SKY")
        self._queued.check(request.client)
        with self._queued.count(request.client):
            async with self._lock:
                return await self._run(position, self._options)

    async def _run(self, position: SkyRequest, options: list[str]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "cutouts.h5"
            arguments = (f"{position.ra:.7f}", f"{position.dec:.7f}", "-o", str(output), "--workers", "1", *options)
            child = await asyncio.create_subprocess_exec(
                *COMMAND,
                *arguments,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(SECONDS):
                    _, errors = await child.communicate()
            except TimeoutError as error:
                raise RequestTimeout(f"the archive took longer than {SECONDS} s") from error
            finally:
                if child.returncode is None:  # too slow, or the client has gone
                    os.killpg(child.pid, signal.SIGKILL)  # with its own children
                    await child.wait()
            if child.returncode:
                lines = errors.decode(errors="replace").strip().splitlines() or ["no reason given"]
                raise ArchiveFailed(lines[-1].removeprefix("Error: "))
            return output.read_bytes()
