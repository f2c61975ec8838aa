"""Write the file of cutouts: processes cut the galaxies that share images into parts, which are then joined."""

import csv
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz import __version__
from photoz.errors import InvalidDataset, counted
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.npz import npz_bytes, read_arrays
from photoz_survey.processes import run_in_processes
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import LegacySurveys
from photoz_survey.sky.targets import Targets
from photoz_survey.storage import parts_folder, write_local

NOT_FOUND = "no object of the catalogue is near, or offline it is not known"

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
    name: str  # of the part, unique to the galaxies and the source

    @classmethod
    def of(cls, rows: npt.NDArray[np.intp], targets: Targets, source: Source) -> "Job":
        """Return the job for rows of a list."""
        chosen, digest = targets.take(rows), hashlib.sha256(f"{source.title} {source.image}".encode())
        for array in (rows, chosen.ra, chosen.dec, *chosen.others.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return cls(rows, chosen, f"{digest.hexdigest()[:32]}.npz")


def cut_job(job: Job, source: Source, parts: Path) -> None:
    """Write the part of a job to the folder `parts`: its cutouts, and the reasons for those that are missing."""
    result = source.cut(job.targets)
    good = result.reasons == ""
    arrays = {"rows": job.rows, "reasons": result.reasons, "images": result.images[good]}
    if result.ivar is not None:
        arrays["ivar"] = result.ivar[good]
    write_local(parts / job.name, npz_bytes(arrays))


def write_cutouts(targets: Targets, source: Source, output: Path, workers: int) -> Iterator[int]:
    """Cut galaxies, which the source has located, and write them to an HDF5 file in order.

    Parts that a stopped run left in the folder beside the file are used. Galaxies without a cutout are listed with the
    reason in a file that ends in ".failed.csv". Yields the number of galaxies of each job. Raises `InvalidDataset` if
    there is no cutout.
    """
    parts = parts_folder(output)
    parts.mkdir(parents=True, exist_ok=True)
    jobs, todo = [Job.of(rows, targets, source) for rows in source.divide(targets)], []
    for job in jobs:
        if _is_done(parts / job.name):
            yield len(job.rows)
        else:
            todo.append(job)
    for job in run_in_processes(partial(cut_job, source=source, parts=parts), todo, workers):
        yield len(job.rows)
    _join(targets, source, output, [parts / job.name for job in jobs])
    shutil.rmtree(parts)


def failed_path(output: Path) -> Path:
    """Return the path of the list of galaxies without cutouts."""
    return output.with_name(f"{output.stem}.failed.csv")


def _is_done(part: Path) -> bool:
    """Whether all galaxies of a part have cutouts; if not, it is cut again."""
    if not part.exists():
        return False
    with np.load(part) as arrays:
        return not (arrays["reasons"] != "").any()


def _join(targets: Targets, source: Source, output: Path, parts: Sequence[Path]) -> None:
    """Write the cutouts of all parts to one file, a part at a time, and the list of galaxies without cutouts."""
    reasons = np.full(len(targets), NOT_FOUND, object)
    for part in parts:
        with np.load(part) as arrays:  # does not read the images
            reasons[arrays["rows"]] = arrays["reasons"]
    good = reasons == ""
    _write_failed(targets, reasons, output)
    if not good.any():
        raise InvalidDataset(f"no cutout of {counted(len(targets), 'position')}; the first: {reasons[0]}")
    place = np.cumsum(good) - 1
    whole = parts_folder(output) / output.name  # removed with the parts after a kill
    with create_hdf5(whole, int(good.sum()), source.image, provenance(source)) as file:
        images = file["images"]
        for part in parts:
            with part.open("rb") as stream:
                arrays = read_arrays(stream)
            for name in PLANES.keys() & arrays.keys():
                planes = file.require_dataset(PLANES[name], images.shape, images.dtype, chunks=images.chunks)
                for row, plane in zip(place[arrays["rows"][arrays["reasons"] == ""]], arrays[name], strict=True):
                    planes[row] = plane
        write_columns(file, targets.take(good).columns())
    whole.replace(output)


def provenance(source: Source) -> str:
    """Say where cutouts come from, and which software cut them."""
    software = [f"{name} {version(name)}" for name in ("astropy", "reproject")]
    return f"{source.title}, cut by {', '.join([f'photoz {__version__}', *software])}"


def _write_failed(targets: Targets, reasons: npt.NDArray[np.object_], output: Path) -> None:
    rows = np.flatnonzero(reasons != "")
    path = failed_path(output)
    path.unlink(missing_ok=True)
    if len(rows):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("object_id", "ra", "dec", "reason"))
            writer.writerows((targets.object_id[row], targets.ra[row], targets.dec[row], reasons[row]) for row in rows)
