"""Write the file of cutouts: processes cut the galaxies that share images into parts, which are then joined."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from photoz import __version__
from photoz.cli.printing import show
from photoz.errors import InvalidDataset, InvalidInput, counted
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.npz import npz_bytes, read_arrays
from photoz_survey.processes import run_in_processes
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.ledger import Ledger, ledger_path
from photoz_survey.sky.legacy import LegacySurveys
from photoz_survey.sky.session import Unreachable
from photoz_survey.sky.targets import Targets
from photoz_survey.storage import parts_folder, write_local

NOT_FOUND = "no object of the catalogue is near, or offline it is not known"

# Seconds for which a host that has answered before may be down, and between two attempts.
PATIENCE, PAUSE = 600.0, 15.0

# An archive: `locate` finds galaxies in it and adds columns from its catalogue; `divide` yields the rows of galaxies
# that are best cut together, without those outside of the archive; `cut`, which runs in other processes, cuts them.
Source = SdssFrames | LegacySurveys

# Datasets of the file by their names in its parts. Readers take datasets outside of groups for columns.
PLANES = {"images": "images", "ivar": "planes/ivar"}


@dataclass(frozen=True)
class Job:
    """Galaxies to cut together."""

    rows: npt.NDArray[np.intp]  # (m,), in the list
    targets: Targets  # m galaxies
    part: Path  # of their cutouts


class CutoutFile:
    """A file of the cutouts of a list, its ledger, and the folder of its parts, which a stopped run leaves."""

    def __init__(self, targets: Targets, source: Source, output: Path) -> None:
        digest = hashlib.sha256(f"{source.title} {source.image}".encode())
        for array in (targets.object_id, targets.ra, targets.dec):
            digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()[:32]
        self.path, self._parts, self._source, self._n = output, parts_folder(output), source, len(targets)
        self._key, self.ledger = key, Ledger(output, key, len(targets))
        if _length(output) != self.ledger.done.sum():
            self.ledger.forget()
        self._written = np.flatnonzero(self.ledger.done)  # rows of its cutouts

    def is_begun(self) -> bool:
        """Whether the file, or parts of it, belong to the same list and source."""
        return len(self._written) > 0 or bool(self._find_parts())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from writing the same file; raises `InvalidInput` if one does."""
        self._parts.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._parts, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise InvalidInput(f"another run writes {self.path}: wait for its end, or choose another name") from None
        finally:
            with contextlib.suppress(OSError):
                self._parts.rmdir()  # if it has no parts
            os.close(folder)

    def write(self, targets: Targets, workers: int) -> Iterator[int]:
        """Cut the galaxies that are not done, which the source has located, and write those that are, in order.

        Yields numbers of galaxies that are done, or have failed. Raises `InvalidDataset` if there is no cutout, and
        `Unreachable` if a host is down for longer than `PATIENCE`, or did not answer at all.
        """
        done = self.ledger.done.copy()
        for part in self._find_parts():
            rows, reasons = _outcome(part)
            done[rows[reasons == ""]] = True
        yield int(done.sum())
        rest, jobs = np.flatnonzero(~done), []
        for chosen in self._source.divide(targets.take(rest)):
            name = f"{self._key}-{hashlib.sha256(rest[chosen].tobytes()).hexdigest()[:16]}.npz"
            jobs.append(Job(rest[chosen], targets.take(rest[chosen]), self._parts / name))
        located = np.concatenate([job.rows for job in jobs] or [rest[:0]])
        yield len(rest) - len(located)
        for job in jobs:
            job.part.unlink(missing_ok=True)  # its galaxies have failed
        yield from self._cut(jobs, workers)
        self.ledger.record(np.setdiff1d(rest, located), NOT_FOUND)
        self._join(targets)
        shutil.rmtree(self._parts)

    def _cut(self, jobs: list[Job], workers: int) -> Iterator[int]:
        """Cut the galaxies of jobs, and wait while a host is down that has answered before."""
        answered, is_down = None, False
        while jobs:
            try:
                for job in run_in_processes(partial(cut_job, source=self._source), jobs, workers):
                    answered, is_down = time.monotonic(), False
                    yield len(job.rows)
                return
            except Unreachable as error:
                n_left = sum(len(job.rows) for job in jobs if not job.part.exists())
                count = f"{self._n - n_left:,} of {counted(self._n, 'galaxy')} are done or have failed"
                if answered is None or time.monotonic() - answered > PATIENCE:
                    raise Unreachable(f"{error}; {count}: run the same command again to continue") from error
                if not is_down:
                    show(f"{error}; {count}; trying again for up to {PATIENCE / 60:g} minutes", err=True)
                is_down, jobs = True, [job for job in jobs if not job.part.exists()]
                time.sleep(PAUSE)

    def _find_parts(self) -> list[Path]:
        """Return the parts of the same list and source, the oldest first."""
        return sorted(self._parts.glob(f"{self._key}-*.npz"), key=lambda part: part.stat().st_mtime)

    def _join(self, targets: Targets) -> None:
        """Write the cutouts of all parts, and those that the file has already, to one file, and the ledger."""
        parts = self._find_parts()
        for part in parts:
            self.ledger.record(*_outcome(part))
        good = self.ledger.done
        if not good.any():
            self.ledger.write(targets)
            shutil.rmtree(self._parts)
            raise InvalidDataset(f"{self.ledger.summary()}; see {ledger_path(self.path)}")
        place, whole = np.cumsum(good) - 1, self._parts / self.path.name  # removed with the parts after a kill
        with create_hdf5(whole, int(good.sum()), self._source.image, provenance(self._source)) as file:
            if len(self._written):
                with h5py.File(self.path) as old:
                    for name in filter(old.__contains__, PLANES.values()):
                        _copy(file, name, place[self._written], old[name])
            for part in parts:
                with part.open("rb") as stream:
                    arrays = read_arrays(stream)
                for name in PLANES.keys() & arrays.keys():
                    _copy(file, PLANES[name], place[arrays["rows"][arrays["reasons"] == ""]], arrays[name])
            write_columns(file, targets.take(good).columns())
        whole.replace(self.path)
        self.ledger.write(targets)


def cut_job(job: Job, source: Source) -> None:
    """Write the part of a job: its cutouts, and the reasons for those that are missing."""
    result = source.cut(job.targets)
    good = result.reasons == ""
    arrays = {"rows": job.rows, "reasons": result.reasons, "images": result.images[good]}
    if result.ivar is not None:
        arrays["ivar"] = result.ivar[good]
    write_local(job.part, npz_bytes(arrays))


def provenance(source: Source) -> str:
    """Say where cutouts come from, and which software cut them."""
    software = [f"{name} {version(name)}" for name in ("astropy", "reproject")]
    return f"{source.title}, cut by {', '.join([f'photoz {__version__}', *software])}"


def _outcome(part: Path) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.str_]]:
    """Return the rows of the galaxies of a part, and the reasons, without reading the images."""
    with np.load(part) as arrays:
        return arrays["rows"], arrays["reasons"]


def _copy(file: h5py.File, name: str, places: npt.NDArray[np.intp], planes: Any) -> None:
    """Write planes of m galaxies to places (m,) in a dataset of a file, one at a time."""
    images = file["images"]
    dataset = file.require_dataset(name, images.shape, images.dtype, chunks=images.chunks)
    for place, row in zip(places, range(len(places)), strict=True):
        dataset[place] = planes[row]


def _length(path: Path) -> int:
    """Return the number of cutouts in a file, -1 if it is missing or something else."""
    with contextlib.suppress(OSError, KeyError), h5py.File(path) as file:
        return len(file["images"])
    return -1
