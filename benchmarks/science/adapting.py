"""What `python -m training adapt` gains for surveys unlike the one that a model was trained on.

The test galaxies of the sample are drawn anew: with wrong zero points; with a PSF wider by a pixel and a sky brighter
by 0.75 mag; into the real frames of FOLDER, the shared files; and as the survey has them. A model is adapted with some
of them and scored on the others. Only the third set has real pixels, those of the sky.

    python -m benchmarks.science adapting [BUNDLE] [FOLDER]

takes half an hour, and writes a record.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.harness.environment import CPUS, RESULTS, SHIPPED
from benchmarks.harness.results import Result, at_most, conclude, reported
from benchmarks.science.real_pixels import FOLDER, ONCE, TWICE
from photoz.flags import Flag
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import TEST, TRAIN
from photoz.io.reader import open_cutouts
from photoz.metrics import galaxy_scores
from photoz.model.bundle import ModelBundle
from photoz.processes import process_pool
from training.adapt import N_OF_RECIPE, Adaptation
from training.adapt_bundle import adapt_model
from training.catalogue import read_kcorrect
from training.fit import fit
from training.imaging_surveys import Survey, sdss
from training.learning_curve import scaled
from training.observed import find_fields
from training.recipes import COMPACT
from training.sample import make_sample
from training.splits import UNUSED, with_labels
from training.trained_model import TrainedModel

ZERO_POINTS, SEEING, FRAMES, NONE = "zero points", "seeing and noise", "real frames", "no shift"

FACTORS = np.array([0.9, 1.12, 0.95, 1.15, 1.0], np.float32)  # of the zero points, u to z
PIXEL, BRIGHTER = 0.396, 0.75  # arcsec, mag

SIZES = (100, 300, 1000)
SEED = 99

ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

# CRPS over that of the model as it is, and over that of a network trained from nothing.
LIMITS = {100: (0.90, 0.75), 300: (0.82, 0.87), 1000: (0.79, 0.97)}


def draw(folder: Path, frames: Path) -> dict[str, Path]:
    """Draw all sets of galaxies; return their files."""
    catalogue = read_kcorrect()
    catalogue = catalogue.take(np.flatnonzero(catalogue.split == TEST))
    found = [find_fields(frames / name, SDSS_IMAGES.bands)[0].values() for name in (TWICE, ONCE)]
    fields = [paths for group in found for paths in group]
    paths = {}
    for number, shift in enumerate((ZERO_POINTS, SEEING, FRAMES, NONE)):
        paths[shift] = folder / f"{number}.h5"
        survey = _worse_seeing() if shift == SEEING else sdss()
        make_sample(
            catalogue, paths[shift], SDSS_IMAGES, survey, seed=SEED, workers=CPUS, fields=fields * (shift == FRAMES)
        )
    with h5py.File(paths[ZERO_POINTS], "r+") as file:
        file["images"][...] *= FACTORS
    return paths


def _worse_seeing() -> Survey:
    survey, bands = sdss(), {}
    for name, band in survey.bands.items():
        assert band.fwhm is not None
        assert band.camera is not None
        camera = band.camera.model_copy(update={"sky": band.camera.sky - BRIGHTER})
        bands[name] = band.model_copy(update={"fwhm": band.fwhm + PIXEL, "camera": camera})
    return survey.model_copy(update={"bands": bands})


def measure(task: tuple[Path, Path, int, Path]) -> dict[str, Any]:
    """Adapt a model with n galaxies of a file and score it on those that no size uses."""
    path, bundle, n, run = task
    loaded = ModelBundle.load(bundle)
    model, grid = TrainedModel.load(loaded), loaded.card.grid
    with open_cutouts(path) as opened:
        order = np.random.default_rng(0).permutation(len(opened))
        split = np.full(len(opened), UNUSED, dtype="<U5")
        split[order[:n]], split[order[max(SIZES) :]] = TRAIN, TEST
        cutouts = with_labels(opened, split)
        rows = cutouts.rows(TEST)
        adapted = adapt_model(model, cutouts, Adaptation.of(loaded.card), run / "adapted")
        recipe = scaled(COMPACT, n, N_OF_RECIPE)
        fitted = fit(cutouts, model.spec, grid, recipe, run / "from-nothing", resume=False)
        models = {
            "as it is": model,
            "adapted": adapted.model,
            "from nothing": TrainedModel(fitted.network, model.spec, grid, fitted.ebv_default),
        }
        predictions = {name: one.predict(cutouts, rows) for name, one in models.items()}
        z_spec = cutouts.column("z_spec")[rows]
    crps = {name: float(galaxy_scores(one.pdfs, z_spec, grid).crps.mean()) for name, one in predictions.items()}
    is_out = {name: (one.flags & Flag.OUT_OF_DISTRIBUTION) > 0 for name, one in predictions.items()}
    return {
        "step": adapted.step,
        "gains": adapted.gains,
        "crps": crps,
        "out of distribution": {name: float(is_out[name].mean()) for name in ("as it is", "adapted")},
        "coverage of 68 %, cross-fitted": float(np.mean(adapted.galaxies[0].in_68)),
    }


def results_of(shift: str, n: int, measured: dict[str, Any]) -> list[Result]:
    """Compare what was measured for a set and a number of galaxies with the limits."""
    crps, name = measured["crps"], f"{shift}, {n} galaxies"
    as_it_is, from_nothing = (crps["adapted"] / crps[other] for other in ("as it is", "from nothing"))
    if shift == NONE:
        return [at_most(f"{name}: CRPS over that of the model as it is", as_it_is, 1.01)]
    results = [
        at_most(f"{name}: CRPS over that of the model as it is", as_it_is, LIMITS[n][0]),
        at_most(f"{name}: CRPS over that of a network from nothing", from_nothing, LIMITS[n][1]),
    ]
    if n == 300:
        off = 100 * abs(measured["coverage of 68 %, cross-fitted"] - 0.68)
        alarms = 100 * measured["out of distribution"]["adapted"]
        results.append(at_most(f"{name}: cross-fitted coverage of 68 %, points off", off, 4.0))
        results.append(at_most(f"{name}: out of distribution, percent", alarms, 3.0))
        before = 100 * measured["out of distribution"]["as it is"]
        results.append(reported(f"{name}: out of distribution before, percent", before))
    return results


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science adapting", description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=SHIPPED)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--output", type=Path, default=RESULTS / "adapting.json")
    options = parser.parse_args(arguments)
    options.program = "adapting"
    with tempfile.TemporaryDirectory() as scratch:
        paths = draw(Path(scratch), options.folder)
        cases = [(shift, n) for shift in (ZERO_POINTS, SEEING, FRAMES) for n in SIZES] + [(NONE, 300)]
        tasks = [(paths[shift], options.bundle, n, Path(scratch) / f"{shift}-{n}") for shift, n in cases]
        os.environ |= ONE_THREAD  # of each child
        with process_pool(CPUS) as pool:
            measured = list(pool.map(measure, tasks).result())
    results = [result for case, one in zip(cases, measured, strict=True) for result in results_of(*case, one)]
    details = {f"{shift}, {n}": one for (shift, n), one in zip(cases, measured, strict=True)}
    return conclude(options, results, {"model": ModelBundle.load(options.bundle).card.digest, "measured": details})
