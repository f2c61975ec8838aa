"""Make a file of cutouts of positions: field by field, in processes, so that each frame is downloaded and read once."""

import csv
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.images import ImageSpec
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.npz import read_arrays
from photoz_survey.processes import run_in_processes
from photoz_survey.sky.archive import ArchiveError, FrameCache
from photoz_survey.sky.cutting import Frame, Pixels, cut, read_frame
from photoz_survey.sky.sdss import RELEASE, Field
from photoz_survey.sky.targets import FIELD_COLUMNS, Targets

NO_FIELD = "no object of the catalogue is near"

# Returns the frame of a field in a band.
Read = Callable[[Field, str], Frame]


@dataclass(frozen=True)
class Job:
    """Galaxies in one field."""

    field: Field
    rows: npt.NDArray[np.intp]  # (m,), of the targets
    ra: FloatArray  # (m,)
    dec: FloatArray

    @property
    def name(self) -> str:
        """Name of the file with its cutouts: of the field, and of the galaxies, which another list has not."""
        galaxies = hashlib.sha256(b"".join(array.tobytes() for array in (self.rows, self.ra, self.dec))).hexdigest()
        return "-".join(map(str, (*astuple(self.field), galaxies[:16]))) + ".npz"


def jobs(targets: Targets) -> list[Job]:
    """Divide galaxies with known fields by their fields, in order of the sky."""
    rows = defaultdict(list)
    for row in np.flatnonzero((targets.fields >= 0).all(axis=1)):
        rows[Field(*map(int, targets.fields[row]))].append(row)
    found = {field: np.array(chosen) for field, chosen in sorted(rows.items())}
    return [Job(field, chosen, targets.ra[chosen], targets.dec[chosen]) for field, chosen in found.items()]


def cut_field(job: Job, frames: FrameCache, spec: ImageSpec, parts: Path) -> None:
    """Write the cutouts of a field to a file in `parts`, or the reason why there are none."""
    read = cache(lambda field, band: read_frame(frames.get(field.path(band))))
    reason, images = "", np.full((len(job.rows), *spec.shape), np.nan, np.float32)
    try:
        for index, band in enumerate(spec.bands):
            for row, (ra, dec) in enumerate(zip(job.ra, job.dec, strict=True)):
                images[row, ..., index] = _cut_across(job.field, band, float(ra), float(dec), spec, read)
            read.cache_clear()
    except ArchiveError as error:
        reason = str(error)
    scratch = parts / f".{job.name}"
    with scratch.open("wb") as file:
        np.savez(file, rows=job.rows, images=images[: 0 if reason else None], reason=np.array(reason))
    scratch.replace(parts / job.name)


def _cut_across(field: Field, band: str, ra: float, dec: float, spec: ImageSpec, read: Read) -> Pixels:
    """Cut a galaxy out of a frame and, where it reaches beyond it, out of those before and after it in the scan."""
    found = cut(read(field, band), ra, dec, spec.size, spec.pixel_scale)
    for neighbour in field.neighbours() if np.isnan(found).any() else ():
        try:
            more = cut(read(neighbour, band), ra, dec, spec.size, spec.pixel_scale)
        except ArchiveError:  # the first or the last of a run
            continue
        found = np.where(np.isnan(found), more, found)
    return found


def fetch(targets: Targets, frames: FrameCache, spec: ImageSpec, output: Path, workers: int) -> Iterator[int]:
    """Cut galaxies out of the frames of their fields, and write them to an HDF5 file in their order.

    What is done of a run that was stopped is in a folder beside the file, and is not done again. Galaxies without
    cutouts are listed, with the reason, in a file that ends in ".failed.csv". Yields the number of galaxies of each
    field that is done. Raises `InvalidDataset` if no galaxy has a cutout.
    """
    parts = output.with_name(f"{output.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    found, todo = jobs(targets), []
    for job in found:
        if _has_cutouts(parts / job.name):
            yield len(job.rows)
        else:
            todo.append(job)
    make_pool = partial(ProcessPoolExecutor, workers, get_context("spawn"))
    for job in run_in_processes(make_pool, partial(cut_field, frames=frames, spec=spec, parts=parts), todo, workers):
        yield len(job.rows)
    _join(targets, spec, output, [parts / job.name for job in found])
    shutil.rmtree(parts)


def _has_cutouts(part: Path) -> bool:
    """Whether a field is done; one that could not be had is asked for again."""
    if not part.exists():
        return False
    with np.load(part) as arrays:
        return not arrays["reason"].item()


def _join(targets: Targets, spec: ImageSpec, output: Path, parts: Sequence[Path]) -> None:
    """Write the cutouts of all fields to one file, a field at a time, and the list of those without."""
    reasons = np.full(len(targets), NO_FIELD, object)
    for part in parts:
        with part.open("rb") as file:
            arrays = read_arrays(file)
        reasons[arrays["rows"]] = str(arrays["reason"])
    good = np.array([not why for why in reasons])
    _write_failed(targets, reasons, output)
    if not good.any():
        raise InvalidDataset(f"no cutout of {len(targets)} positions; the first: {reasons[0]}")
    place = np.cumsum(good) - 1
    with create_hdf5(output, int(good.sum()), spec, f"frames of SDSS DR{RELEASE}") as file:
        for part in parts:
            with part.open("rb") as stream:
                arrays = read_arrays(stream)
            for row, image in zip(arrays["rows"], arrays["images"], strict=False):
                file["images"][place[row]] = image
        columns = {name: getattr(targets, name)[good] for name in ("object_id", "ra", "dec", "z_spec", "ebv")}
        write_columns(file, columns | dict(zip(FIELD_COLUMNS, targets.fields[good].T, strict=True)))


def _write_failed(targets: Targets, reasons: npt.NDArray[np.object_], output: Path) -> None:
    rows = [row for row, why in enumerate(reasons) if why]
    path = output.with_name(f"{output.stem}.failed.csv")
    path.unlink(missing_ok=True)
    if rows:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("object_id", "ra", "dec", "reason"))
            writer.writerows((targets.object_id[row], targets.ra[row], targets.dec[row], reasons[row]) for row in rows)
