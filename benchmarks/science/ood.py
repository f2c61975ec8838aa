"""What the out-of-distribution score of a bundle catches, on the test galaxies of data/sample.h5.

Each defect is applied to the cutouts of all test galaxies; the table gives the fractions that get each flag, and the
fraction that is off without a flag: by more than 0.02 (1 + z) in z_mean from the galaxy's clean cutout, with no flag
from the input or the score. The stars have the fluxes and the seeing of the galaxies, without their extent; counts are
photo-electrons; saturated cores are clipped at half of their peak. A hot pixel has 10 nanomaggies, a cosmic ray 5 in
each of about eight pixels through the core, a satellite trail 0.5 per pixel at a random angle, on average 8 pixels from
the centre. All three, and the dead column through the core, are in r. Worse seeing keeps the noise of the clean cutout.

    python -m benchmarks.science ood [BUNDLE] [DATA]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.environment import CPUS, ROOT, SHIPPED
from benchmarks.harness.results import table
from photoz.flags import Flag
from photoz.grid import FloatArray
from photoz.images import ZERO_POINT, Batch, ImageSpec
from photoz.inference.predictor import Predictor
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.defects import add_hits, draw_trail, kill_column, leave_sky_in
from training.galaxies import Galaxies
from training.render import render
from training.sky import Sky, add_sky

BATCH = 256
POINT = 0.01  # arcsec, half-light radius of a star

# The flags that describe the input, not the PDF.
RAISED = Flag.MASKED_PIXELS | Flag.BAND_MISSING | Flag.LOW_SNR | Flag.OUT_OF_DISTRIBUTION
OFF = 0.02

MIDDLE = 2  # the band r

Images = np.ndarray[Any, np.dtype[np.float32]]
Columns = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Truth:
    """What some cutouts were rendered with."""

    galaxies: Galaxies
    sky: Sky
    spec: ImageSpec


Spoil = Callable[[Images, Truth, np.random.Generator], Images]


def each(spoil: Callable[[Any, np.random.Generator], None]) -> Spoil:
    """Return a function that changes a copy of each cutout by another function, in place."""

    def spoil_copies(images: Images, truth: Truth, rng: np.random.Generator) -> Images:
        spoilt = images.copy()
        for image in spoilt:
            spoil(image, rng)
        return spoilt

    return spoil_copies


SPOILT: dict[str, Spoil] = {
    "clean": lambda images, *_: images,
    "g and i swapped": lambda images, *_: images[..., [0, 3, 2, 1, 4]],
    "u and z swapped": lambda images, *_: images[..., [4, 1, 2, 3, 0]],
    "bands reversed": lambda images, *_: images[..., ::-1],
    "g and r swapped": lambda images, *_: images[..., [0, 2, 1, 3, 4]],
    "r and i swapped": lambda images, *_: images[..., [0, 1, 3, 2, 4]],
    "ten times the unit": lambda images, *_: images * 10,
    "a tenth of the unit": lambda images, *_: images / 10,
    "2.5 times the unit": lambda images, *_: images * np.float32(2.5),
    "counts": lambda images, truth, _: images * _electrons(truth),
    "counts with their sky": lambda images, truth, _: (images + _brightness(truth)) * _electrons(truth),
    "a star": lambda _, truth, rng: _star(truth, rng),
    "blank sky": lambda images, truth, rng: add_sky(np.zeros_like(images), truth.sky, rng),
    "5 pixels off": lambda images, *_: np.roll(images, 5, axis=1),
    "10 pixels off": lambda images, *_: np.roll(images, 10, axis=1),
    "sky not subtracted": lambda images, truth, _: images + _brightness(truth),
    "sky off by 0.1": lambda images, *_: images + np.float32(0.1),
    "sky off by 0.01": lambda images, *_: images + np.float32(0.01),
    "saturated": lambda images, *_: clipped(images),
    "saturated in r alone": lambda images, *_: clipped(images, slice(2, 3)),
    "saturated, at 65535": lambda images, *_: np.where(clipped(images) < images, np.float32(65535), images),
    "no u": lambda images, *_: images * np.array([0, 1, 1, 1, 1], np.float32),
    "a gradient of 0.01": each(lambda image, _: leave_sky_in(image, 0.0, np.array([[0.01], [0.0]]))),
    "a hot pixel": each(lambda image, _: add_hits(image, MIDDLE, *_track(image, 1), 10.0)),
    "a cosmic ray": each(lambda image, _: add_hits(image, MIDDLE, *_track(image, 8), 5.0)),
    "a dead column": each(lambda image, _: kill_column(image, MIDDLE, len(image) // 2)),
    "a satellite trail": each(
        lambda image, rng: draw_trail(image, MIDDLE, rng.uniform(0.0, np.pi), rng.uniform(-16.0, 16.0), 0.5)
    ),
    "seeing 30 % worse": lambda images, truth, _: images + _blur(truth, 1.3),
}


def clipped(images: Images, bands: slice = slice(None)) -> Images:
    """Clip the galaxy in the centre to half of its peak in some of the bands."""
    half = images.shape[1] // 8
    box = slice(images.shape[1] // 2 - half, images.shape[1] // 2 + half)
    peaks = images[:, box, box, bands].max(axis=(1, 2), keepdims=True)
    spoilt = images.copy()
    spoilt[:, box, box, bands] = np.minimum(images[:, box, box, bands], peaks / 2)
    return spoilt


def _electrons(truth: Truth) -> Images:
    return np.asarray(truth.sky.electrons[:, None, None], np.float32)


def _brightness(truth: Truth) -> Images:
    """Sky, in nanomaggies per pixel, whose photons make the noise."""
    return np.asarray(truth.sky.sky_sigma[:, None, None] ** 2 * _electrons(truth), np.float32)


def _star(truth: Truth, rng: np.random.Generator) -> Images:
    n = len(truth.galaxies)
    points = replace(truth.galaxies, half_light_radius=np.full(n, POINT), axis_ratio=np.ones(n))
    return add_sky(render(points, truth.spec), truth.sky, rng)


def _track(image: Any, n: int) -> tuple[FloatArray, FloatArray]:
    """Rows and columns of n pixels on a slanted line from beside the centre on."""
    start, steps = len(image) // 2 + 1, np.arange(n)
    return start + 0.5 * steps, start - 1.0 * steps


def _blur(truth: Truth, factor: float) -> Images:
    """Change of the noise-free cutouts by another seeing."""
    worse = replace(truth.galaxies, fwhm=factor * truth.galaxies.fwhm)
    return np.asarray(render(worse, truth.spec) - render(truth.galaxies, truth.spec), np.float32)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    given = [Path(argument) for argument in arguments]
    bundle_path, data = (*given, *(SHIPPED, ROOT / "data" / "sample.h5")[len(given) :])
    bundle = ModelBundle.load(bundle_path)
    predictor = Predictor.load(bundle, threads=CPUS)
    with open_cutouts(data) as cutouts:
        rows = cutouts.rows(TEST)
        estimates = {name: _estimates(bundle, predictor, cutouts, rows, spoil) for name, spoil in SPOILT.items()}
    print(f"{bundle.card.name} {bundle.card.version}, {len(rows)} test galaxies of {data}; percent of them\n")
    head = ("", "flagged", "out of distribution", "low S/N", "off without a flag", "median score / threshold")
    clean = estimates["clean"]["z_mean"]
    print(table(head, ((name, *_cells(bundle, columns, clean)) for name, columns in estimates.items())))


def _cells(bundle: ModelBundle, estimates: Columns, clean: FloatArray) -> list[str]:
    flags, chosen = estimates["flags"], (RAISED, Flag.OUT_OF_DISTRIBUTION, Flag.LOW_SNR)
    is_off = np.abs(estimates["z_mean"] - clean) > OFF * (1 + clean)
    parts = [*((flags & flag) > 0 for flag in chosen), is_off & ((flags & RAISED) == 0)]
    threshold = bundle.card.ood.threshold if bundle.card.ood else np.nan
    return [*(f"{100 * part.mean():.1f}" for part in parts), f"{np.median(estimates['ood_score']) / threshold:.2f}"]


def _estimates(bundle: ModelBundle, predictor: Predictor, cutouts: Cutouts, rows: Any, spoil: Spoil) -> Columns:
    card, rng = bundle.card, np.random.default_rng(0)
    parts = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        spoilt = spoil(cutouts.read_images(some), truth_of(cutouts, some, card.image), rng)
        batch = Batch.of(spoilt, card.image, cutouts.column("ebv")[some], card.inputs.ebv_default)
        parts.append(predictor.predict(batch))
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("z_mean", "ood_score", "flags")}


def truth_of(cutouts: Cutouts, rows: Any, spec: ImageSpec) -> Truth:
    """Return what some cutouts were rendered with."""
    fluxes = 10.0 ** (0.4 * (ZERO_POINT - cutouts.column("magnitudes")[rows]))
    shapes, sky = (
        {field.name: cutouts.column(field.name)[rows] for field in fields(kind) if field.name != "fluxes"}
        for kind in (Galaxies, Sky)
    )
    return Truth(Galaxies(fluxes, **shapes), Sky(**sky), spec)
