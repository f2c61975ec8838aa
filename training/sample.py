"""Simulate labelled cutouts of the galaxies in a catalogue, in parallel."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.images import ImageSpec
from photoz.io.cutouts import TEST, Column
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.processes import process_pool
from training.catalogue import Catalogue
from training.galaxies import USUAL, WIDE, Galaxies, Variety, draw_galaxies, draw_neighbours
from training.imaging_surveys import Survey, sdss
from training.render import render, render_with_galsim
from training.sky import add_sky, draw_sky

# Galaxies in a task. Each task has its own random stream, so that a sample does not depend on the number of processes.
CHUNK = 64

Frames = tuple[Path, ...]  # of one field, in the order of the bands
Drawn = tuple[FloatArray, dict[str, Column]]  # cutouts and their columns

RENDERERS = {"fft": render, "galsim": render_with_galsim}


@dataclass(frozen=True)
class Task:
    """Galaxies that are drawn together."""

    fluxes: FloatArray  # (n, n_bands) nanomaggies
    variety: Variety
    spec: ImageSpec
    survey: Survey
    stream: np.random.SeedSequence
    renderer: str
    frames: Frames | None  # None for a rendered sky


def make_sample(
    catalogue: Catalogue,
    path: Path,
    spec: ImageSpec,
    survey: Survey | None = None,
    *,
    seed: int = 0,
    renderer: str = "fft",
    renders: int = 1,
    workers: int | None = None,
    fields: Sequence[Frames] = (),
) -> None:
    """Draw every galaxy of a catalogue with noise and write the cutouts as HDF5; the file appears when it is complete.

    With the frames of some fields, galaxies are drawn into these in turn, by GalSim (`training.frames`).

    Galaxies that are not for testing get `renders` cutouts, each with its own shape, seeing, neighbours and noise. The
    first cutouts of all galaxies come first, resemble the survey, and do not depend on `renders`; the others vary more
    (`training.galaxies.WIDE`). The same seed gives the same file for any number of worker processes, by default one for
    each core. Raises `InvalidDataset` if the survey, by default SDSS, lacks the seeing or the noise of a band.
    """
    survey = survey or sdss()
    drawable = survey.observations
    if unknown := [band for band in spec.bands if band not in drawable]:
        raise InvalidDataset(
            f"cannot draw {','.join(unknown)}: {survey.title} has seeing and noise of {','.join(drawable) or 'no band'}"
        )
    again = np.tile(np.flatnonzero(catalogue.split != TEST), renders - 1)
    chunks = [(fluxes, USUAL) for fluxes in _chunks(catalogue.fluxes)]
    chunks += [(fluxes, WIDE) for fluxes in _chunks(catalogue.fluxes[again])]
    streams = np.random.SeedSequence(seed).spawn(len(chunks))
    frames = cycle(fields or [None])
    tasks = [
        Task(*chunk, spec, survey, stream, renderer, next(frames))
        for chunk, stream in zip(chunks, streams, strict=True)
    ]
    provenance = f"{catalogue.provenance}, as seen by {survey.title}"
    provenance += f"; drawn into frames of {len(fields)} fields" if fields else ""
    provenance += f"; {renders} renders of those not tested on" if renders > 1 else ""
    catalogue = catalogue.take(np.concatenate([np.arange(len(catalogue)), again]))
    shapes: list[dict[str, Column]] = []
    with create_hdf5(path, len(catalogue), spec, provenance) as file:
        with tqdm(total=len(catalogue), unit="galaxy") as bar:
            for stamps, columns in _draw_all(tasks, workers or os.cpu_count() or 1):
                file["images"][bar.n : bar.n + len(stamps)] = stamps
                shapes.append(columns)
                bar.update(len(stamps))
        write_columns(file, _catalogue_columns(catalogue))
        write_columns(file, {name: np.concatenate([columns[name] for columns in shapes]) for name in shapes[0]})


def _chunks(fluxes: FloatArray) -> Iterator[FloatArray]:
    return (fluxes[start : start + CHUNK] for start in range(0, len(fluxes), CHUNK))


def _draw_all(tasks: list[Task], workers: int) -> Iterator[Drawn]:
    """Draw in child processes, or in this process if one is enough."""
    workers = min(workers, len(tasks))
    if workers == 1:
        yield from map(_draw, tasks)
    else:
        with process_pool(workers) as pool:
            yield from pool.map(_draw, tasks).result()


def _draw(task: Task) -> Drawn:
    rng = np.random.default_rng(task.stream)
    galaxies = draw_galaxies(task.fluxes, task.spec, rng, task.variety, task.survey)
    if task.frames is None:
        return _render(task, galaxies, rng)
    from training.frames import draw_into, read_field  # needs the extra `frames`

    return draw_into(read_field(task.frames, task.spec), galaxies, task.spec, task.survey, rng)


def _render(task: Task, galaxies: Galaxies, rng: np.random.Generator) -> Drawn:
    """Draw galaxies, and neighbours and a sky for them."""
    variety, spec, survey = task.variety, task.spec, task.survey
    rows, neighbours = draw_neighbours(galaxies, spec, rng, variety, survey)
    sky = draw_sky(len(galaxies), spec, rng, variety, survey)
    stamps = RENDERERS[task.renderer](galaxies, spec)
    np.add.at(stamps, rows, RENDERERS[task.renderer](neighbours, spec))
    columns: dict[str, Column] = {
        **galaxies.columns(),
        **vars(sky),
        "n_neighbours": np.bincount(rows, minlength=len(galaxies)),
    }
    return add_sky(stamps, sky, rng), columns


def _catalogue_columns(catalogue: Catalogue) -> dict[str, np.ndarray]:
    names = ("object_id", "ra", "dec", "ebv", "z_spec", "magnitudes", "magnitude_errors", "split")
    return {name: getattr(catalogue, name) for name in names}
