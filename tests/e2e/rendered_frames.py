"""`photoz sky` by its redshifts: a network trained on cutouts out of frames, and one on the same galaxies as drawn.

The galaxies of the sample and their neighbours are drawn twice with the same shapes, seeing and sky: as cutouts, as for
the sample, and into frames as SDSS publishes them, out of which `photoz sky` cuts them. Each field is turned by another
angle, and each of its bands is off by another fraction of a pixel. Seeing and sky noise are those of a field instead of
a cutout's; the noise is drawn once in a frame and once in the cutouts. A position in the list is off from the galaxy by
up to half a pixel, as the centre of a drawn cutout is.

With a seed each, the recipe is trained on both and scored on the same test galaxies. To tell what comes from the pixels
from what comes from the training, the shipped model and a catalogue method on aperture fluxes see both as well.

    python -m tests.e2e.rendered_frames

takes about half an hour on two idle cores, and 5 GB of temporary files.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from benchmarks.harness.environment import CPUS, RESULTS, ROOT, SHIPPED
from benchmarks.harness.results import Result, at_most, conclude, reported, table
from benchmarks.survey import COMMAND
from photoz.grid import SDSS_GRID, FloatArray, IntArray
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.reader import open_cutouts
from photoz.metrics import GalaxyScores, Score, galaxy_scores
from photoz.model.bundle import ModelBundle
from photoz_client.comparison import MetricPair, metric_pairs
from training.baselines import baseline_scores
from training.catalogue import Catalogue, read_kcorrect
from training.galaxies import Galaxies, draw_galaxies, draw_neighbours
from training.photometry import gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise
from training.render import add_noise, render
from training.splits import usable_rows
from training.trained_model import TrainedModel

SHAPE = (1489, 2048)  # of a frame
RUN, RERUN, CAMCOL = 94, 301, 3

# Cutouts in a frame are on a grid of this spacing, each moved at random by up to JITTER pixels along both axes. STAMP
# holds a cutout in any rotation, and no two stamps overlap.
SPACING, JITTER, STAMP = 120, 8, 96
GRID = (SHAPE[0] // SPACING, SHAPE[1] // SPACING)
PER_FIELD = GRID[0] * GRID[1]

APERTURES = "local linear regression, aperture fluxes of the cutouts"
N_PIXELS = 1000  # cutouts whose pixels are compared
ONE_TRAINING_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
METRICS = ("sigma_mad", "outlier_fraction", "crps", "bias")


@dataclass(frozen=True)
class Field:
    """What is drawn into the frames of a field, and into as many cutouts."""

    centres: SkyCoord  # (n,) of the cutouts
    cutout: IntArray  # (m,) of each object: first those in the centres, then their neighbours
    objects: Galaxies  # (m,)
    header: fits.Header  # of the frames, which differ by fractions of a pixel


def draw(catalogue: Catalogue, folder: Path, seed: int = 0) -> None:
    """Draw the galaxies of a catalogue as cutouts, `drawn.h5`, and into `frames/`, with `list.csv` for `photoz sky`."""
    frames, places = folder / "frames", []
    frames.mkdir()
    fields = np.split(np.arange(len(catalogue)), range(PER_FIELD, len(catalogue), PER_FIELD))
    streams = np.random.SeedSequence(seed).spawn(len(fields))
    tasks = [
        (catalogue.take(rows), stream, frames, number)
        for number, (rows, stream) in enumerate(zip(fields, streams, strict=True))
    ]
    with create_hdf5(folder / "drawn.h5", len(catalogue), SDSS_IMAGES, catalogue.provenance) as file:
        with ProcessPoolExecutor(CPUS) as pool:
            for rows, (stamps, centres) in zip(fields, pool.map(_draw_field, tasks), strict=True):
                file["images"][rows[0] : rows[-1] + 1] = stamps
                places.append(centres)
        columns = {name: getattr(catalogue, name) for name in ("object_id", "ebv", "z_spec", "split")}
        columns["ra"], columns["dec"] = np.concatenate(places, axis=1)
        write_columns(file, columns | {"magnitudes": catalogue.magnitudes})
    listed = Table(columns)
    for name, value in {"run": RUN, "rerun": RERUN, "camcol": CAMCOL, "field": 0}.items():
        listed[name] = value
    for number, rows in enumerate(fields):
        listed["field"][rows] = number
    listed.write(folder / "list.csv")


def _draw_field(task: tuple[Catalogue, np.random.SeedSequence, Path, int]) -> tuple[FloatArray, FloatArray]:
    """Write the frames of a field; return its drawn cutouts (n, 64, 64, 5) and their positions (2, n)."""
    catalogue, stream, folder, number = task
    rng = np.random.default_rng(stream)
    field = _make_field(catalogue, rng)
    stamps = np.zeros((len(catalogue), *SDSS_IMAGES.shape), np.float32)
    np.add.at(stamps, field.cutout, render(field.objects, SDSS_IMAGES))
    for index, band in enumerate(SDSS_IMAGES.bands):
        path = folder / f"frame-{band}-{RUN:06d}-{CAMCOL}-{number:04d}.fits"
        fits.PrimaryHDU(*_draw_frame(field, index, rng)).writeto(path)
    cutouts = add_noise(stamps, _take(field.objects, slice(len(catalogue))), SDSS_IMAGES, rng)
    return cutouts, np.stack([field.centres.ra.deg, field.centres.dec.deg])


def _make_field(catalogue: Catalogue, rng: np.random.Generator) -> Field:
    """Draw objects under the conditions of one field, whose first galaxy is where it is in the catalogue."""
    galaxies = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, rng)
    rows, neighbours = draw_neighbours(catalogue.fluxes, SDSS_IMAGES, rng)
    both = {name: np.concatenate([value, getattr(neighbours, name)]) for name, value in vars(galaxies).items()}
    for name in ("fwhm", "sky_sigma"):
        both[name] = np.broadcast_to(both[name][0], both[name].shape)
    header = _header(float(catalogue.ra[0]), float(catalogue.dec[0]), rng.uniform(0.0, 2.0 * np.pi))
    y, x = np.unravel_index(np.arange(len(catalogue)), GRID)
    places = SPACING * (np.stack([x, y]) + 0.5) + rng.uniform(-JITTER, JITTER, (2, len(x)))
    margin = (np.array(SHAPE[::-1]) - SPACING * np.array(GRID[::-1])) / 2
    centres = SkyCoord(*WCS(header).wcs_pix2world(*(places + margin[:, None]), 0), unit="deg")
    return Field(centres, np.concatenate([np.arange(len(galaxies)), rows]), Galaxies(**both), header)


def _header(ra: float, dec: float, angle: float) -> fits.Header:
    """Return the header of a frame around a position in degrees, turned by an angle; SDSS's are mirrored like this."""
    c, s = SDSS_IMAGES.pixel_scale / 3600 * np.array([np.cos(angle), np.sin(angle)])
    projection = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec}
    matrix = {"CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c}
    return fits.Header({**projection, "CRPIX1": 1025.0, "CRPIX2": 745.0, **matrix, "BUNIT": "nanomaggy"})


def _draw_frame(field: Field, band: int, rng: np.random.Generator) -> tuple[FloatArray, fits.Header]:
    """Draw the frame of a band, with noise."""
    header = field.header.copy()
    for axis in ("CRPIX1", "CRPIX2"):
        header[axis] += rng.uniform(-0.5, 0.5)
    objects = replace(field.objects, fluxes=field.objects.fluxes[:, [band]], fwhm=field.objects.fwhm[:, [band]])
    spec = ImageSpec(STAMP, (SDSS_IMAGES.bands[band],))
    corners, turned = _in_frame(field, objects, WCS(header))
    stamps = np.zeros((len(field.centres), *spec.shape), np.float32)
    np.add.at(stamps, field.cutout, render(turned, spec))
    pixels = np.zeros((1, *SHAPE, 1), np.float32)
    for (x, y), stamp in zip(corners, stamps, strict=True):
        pixels[0, y : y + STAMP, x : x + STAMP] += stamp
    conditions = replace(_take(objects, slice(1)), sky_sigma=field.objects.sky_sigma[:1, [band]])
    return add_noise(pixels, conditions, spec, rng)[0, ..., 0], header


def _in_frame(field: Field, objects: Galaxies, wcs: Any) -> tuple[IntArray, Galaxies]:
    """Return the lower left pixel (n, 2) of a stamp around each cutout, and the objects as they are in these stamps.

    In cutouts north is up and east is left; where that is in a frame follows from two points of each object on the sky,
    its centre and a place one pixel away along its major axis.
    """
    angle = objects.position_angle
    steps = np.stack([np.zeros((len(objects), 2)), np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    x, y = np.moveaxis(objects.offset + steps, -1, 0) * SDSS_IMAGES.pixel_scale * u.arcsec
    places = field.centres[field.cutout].spherical_offsets_by(-x, y)
    centre, tip = np.stack(wcs.wcs_world2pix(places.ra.deg, places.dec.deg, 0), axis=-1)
    middle = np.stack(wcs.wcs_world2pix(field.centres.ra.deg, field.centres.dec.deg, 0), axis=-1)
    corners = np.rint(middle - (STAMP - 1) / 2).astype(int)
    offset = centre - corners[field.cutout] - (STAMP - 1) / 2
    return corners, replace(objects, offset=offset, position_angle=np.arctan2(*(tip - centre).T[::-1]))


def _take(galaxies: Galaxies, rows: slice) -> Galaxies:
    return Galaxies(**{name: values[rows] for name, values in vars(galaxies).items()})


def cut_out(folder: Path) -> Path:
    """Cut the galaxies of `list.csv` out of `frames/` by `photoz sky`."""
    output = folder / "cut.h5"
    where = ("--cache", folder / "frames", "--offline", "--workers", str(CPUS))
    subprocess.run([*COMMAND, "sky", "--list", folder / "list.csv", "-o", output, *where], cwd=ROOT, check=True)
    return output


def train(data: Path, bundle: Path, *options: str) -> ModelBundle:
    """Train on one thread by the command line."""
    where = ("--data", data, "--bundle", bundle, "--run", bundle.with_name(f"{bundle.name}-run"))
    command = [sys.executable, "-m", "training", "train", *where, "--no-figures", "--only-f32", *options]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_TRAINING_THREAD}, check=True)
    return ModelBundle.load(bundle)


def train_both(folder: Path, *options: str) -> tuple[ModelBundle, ModelBundle]:
    """Train on drawn cutouts and on those out of frames, side by side."""
    with ThreadPoolExecutor() as pool:
        drawn, cut = pool.map(lambda kind: train(folder / f"{kind}.h5", folder / kind, *options), ("drawn", "cut"))
    return drawn, cut


def predict(bundle: ModelBundle, data: Path) -> GalaxyScores:
    """Score a model on the test galaxies of a file."""
    with open_cutouts(data) as cutouts:
        rows = usable_rows(cutouts, bundle.card.grid, TEST)
        pdfs = TrainedModel.load(bundle).predict(cutouts, rows).pdfs
        return galaxy_scores(pdfs, cutouts.column("z_spec")[rows], bundle.card.grid)


def compare(folder: Path, drawn: ModelBundle, cut: ModelBundle) -> dict[str, Any]:
    """Compare two models on the test galaxies, one on drawn cutouts and one on those out of frames."""
    pairs = metric_pairs(predict(drawn, folder / "drawn.h5"), predict(cut, folder / "cut.h5"))
    return {
        "scores": {name: {"drawn": asdict(pairs[name].a), "cut": asdict(pairs[name].b)} for name in METRICS},
        "ratios": {name: asdict(_ratio(pairs[name])) for name in ("sigma_mad", "crps")},
    }


def _ratio(pair: MetricPair) -> Score:
    """Return b / a and its bootstrap error on the same galaxies."""
    return Score(pair.b.value / pair.a.value, pair.worsening.error / pair.a.value)


def measure_cutouts(folder: Path) -> dict[str, Any]:
    """Measure noise and fluxes by band, and a catalogue method's errors, of cutouts out of frames over drawn ones."""
    weight, noise, fluxes, sigmas = gaussian_aperture(SDSS_IMAGES.size, REFERENCE_SIGMA * SDSS_IMAGES.size), [], [], []
    for kind in ("drawn", "cut"):
        with open_cutouts(folder / f"{kind}.h5") as cutouts:
            images = cutouts.images[:N_PIXELS]
            scores = baseline_scores(cutouts, SDSS_IMAGES, SDSS_GRID, cutouts.column("ebv"))
        noise.append(sky_noise(images))
        fluxes.append(measure(images, weight))
        sigmas.append(scores[APERTURES]["sigma_mad"].value)
    return {
        "noise of a pixel": (noise[1] / noise[0]).tolist(),
        "flux, median": np.median(fluxes[1] / fluxes[0], axis=0).tolist(),
        APERTURES: sigmas[1] / sigmas[0],
    }


def main() -> int:
    """Draw, cut, train and compare; print the scores and write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.rendered_frames", description=__doc__)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.program, options.output = "rendered_frames", RESULTS / "rendered-frames.json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(read_kcorrect(), folder)
        cut_out(folder)
        shutil.rmtree(folder / "frames")
        measured = measure_cutouts(folder)
        seeds = (("--seed", str(seed), "--epochs", str(options.epochs)) for seed in range(options.seeds))
        comparisons = {
            f"seed {seed}": compare(folder, *train_both(folder, *recipe)) for seed, recipe in enumerate(seeds)
        }
        shipped = ModelBundle.load(SHIPPED)
        comparisons["shipped"] = compare(folder, shipped, shipped)
    rows = [
        (f"{model}, {kind}", *(str(Score(**comparison["scores"][metric][kind])) for metric in METRICS))
        for model, comparison in comparisons.items()
        for kind in ("drawn", "cut")
    ]
    print(table(("model, cutouts", *METRICS), rows))
    return conclude(options, _results(comparisons, measured), {"models": comparisons, "cut, of drawn": measured})


def _results(comparisons: Mapping[str, dict[str, Any]], measured: Mapping[str, Any]) -> list[Result]:
    ratios = {model: comparison["ratios"]["sigma_mad"]["value"] for model, comparison in comparisons.items()}
    shipped = ratios.pop("shipped")
    farthest = max(100 * abs(ratio - 1) for ratio in ratios.values())
    return [
        reported("sigma_mad of cutouts out of frames, of that of drawn ones", [*ratios.values()]),
        at_most("the farthest of these from 1, percent", farthest, 10),
        reported("the ratio for the shipped model", shipped),
        reported(f"the ratio for {APERTURES}", measured[APERTURES]),
    ]


if __name__ == "__main__":
    sys.exit(main())
