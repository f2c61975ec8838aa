"""A model on the pixels of three real fields: one of SDSS that was observed twice, and that of M2.

FOLDER holds `sdss-stripe82` and `sdss`, the shared files. No redshifts come with them, so galaxies with known redshifts
are drawn into them. Measured are

- drawn: the test galaxies of the sample, drawn into the fields as `python -m training sample --frames` draws them,
  beside the same galaxies, drawn with Gaussian noise of the same standard deviation in place of the frames' pixels;
- twice: sources of the field that was observed twice, r < 18.5. The expected difference of two estimates is that of
  estimates of the same pixels with as much noise again;
- extended: its extended sources, 15 < r < 18.2, as brighter ones are saturated stars, and the groups of features that
  flag them;
- stars: its point sources, 15 < r < 18;
- M2: the isolated sources of the field of M2, all but one of them stars, as in `real_field`.

    python -m benchmarks.science real_pixels [BUNDLE] [FOLDER]

takes minutes, and writes a record.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.environment import CPUS, RESULTS, ROOT, SHIPPED
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.science import real_field
from benchmarks.science.real_sources import Sources, sources_of
from photoz import ood, plots
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import BoolArray, FloatArray, RedshiftGrid
from photoz.images import SDSS_IMAGES, Batch, measure_border
from photoz.inference.predictor import Predictor, as_estimates
from photoz.io.cutouts import TEST
from photoz.metrics import galaxy_scores, summarise
from photoz.model.bundle import ModelBundle
from photoz.processes import process_pool
from photoz_client.comparison import metric_pairs
from training.catalogue import read_kcorrect
from training.frames import draw_into, read_field
from training.galaxies import draw_galaxies
from training.imaging_surveys import sdss
from training.observed import find_fields
from training.sky import Sky, add_sky

FOLDER = ROOT.parent / "shared" / "data"
TWICE, ONCE = "sdss-stripe82", "sdss"
EBV = 0.04  # of both fields (their README; assumed for M2's, as in `real_field`)

BATCH = 256

SAME_PLACE = 1.0  # arcsec
EXTENDED_R, STARS = (15.0, 18.2), (15.0, 18.0)  # magnitudes in r

NOISE_OF_RESAMPLED = 0.873  # over that of the frame (`training.sky.resampled_noise`)
AGAIN = 12  # estimates with more noise, from which its share follows
UNLIKE = 3.0  # in units of the expected difference


@dataclass(frozen=True)
class Model:
    """The model that is measured."""

    predictor: Predictor
    ebv_default: float | None

    @classmethod
    def of(cls, bundle: ModelBundle) -> "Model":
        """Load the model of a bundle."""
        return cls(Predictor.load(bundle, threads=CPUS), bundle.card.inputs.ebv_default)

    def predict(self, images: FloatArray, ebv: FloatArray | float = EBV) -> tuple[Estimates, list[str]]:
        """Return the estimates of n cutouts, and the group of features in which each is the farthest."""
        ebv, parts, farthest = np.broadcast_to(ebv, len(images)), [], []
        for start in range(0, len(images), BATCH):
            some = slice(start, start + BATCH)
            batch = Batch.of(images[some], SDSS_IMAGES, ebv[some], self.ebv_default)
            output = self.predictor.run_network(batch)
            parts.append(as_estimates(batch, self.predictor.summarise(batch, output)))
            features = ood.extract_features(batch.images, output.features, batch.border)
            groups = self.predictor.feature_groups
            distances = np.stack([ood.score({name: group}, features) for name, group in groups.items()])
            farthest += [list(groups)[group] for group in distances.argmax(axis=0)]
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Estimates)}
        return Estimates(**columns), farthest


def is_flagged(estimates: Estimates) -> BoolArray:
    """Whether each of n estimates is out of distribution."""
    return np.asarray((estimates.flags & Flag.OUT_OF_DISTRIBUTION) > 0)


def draw_tests(task: tuple[tuple[Path, ...], Any, bool]) -> FloatArray:
    """Draw galaxies of a catalogue into a field, or into noise like that of the field."""
    paths, catalogue, on_noise = task
    rng, field = np.random.default_rng(0), read_field(paths, SDSS_IMAGES)
    galaxies = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, rng)
    field = field.with_noise(np.random.default_rng(1)) if on_noise else field
    return draw_into(field, galaxies, SDSS_IMAGES, sdss(), rng)[0]


@dataclass(frozen=True)
class Drawn:
    """The test galaxies drawn into the fields, and what a model says of them there and on rendered sky."""

    fields: list[str]  # names of their middle frames
    field: Any  # (n,) the index of each galaxy's field
    z_spec: FloatArray
    on_noise: Estimates
    real: Estimates
    farthest: list[str]  # group of features in which each is the farthest, in the real fields

    @classmethod
    def of(cls, model: Model, folders: Sequence[Path]) -> "Drawn":
        """Draw the galaxies and predict them."""
        found = [paths for folder in folders for paths in find_fields(folder, SDSS_IMAGES.bands)[0].values()]
        catalogue = read_kcorrect()
        tests = np.flatnonzero(catalogue.split == TEST)
        parts = [catalogue.take(tests[first :: len(found)]) for first in range(len(found))]
        tasks = [(*task, on_noise) for on_noise in (True, False) for task in zip(found, parts, strict=True)]
        with process_pool(CPUS) as pool:
            images = list(pool.map(draw_tests, tasks).result())
        z_spec, ebv = (np.concatenate([getattr(part, name) for part in parts]) for name in ("z_spec", "ebv"))
        on_noise, _ = model.predict(np.concatenate(images[: len(found)]), ebv)
        real, farthest = model.predict(np.concatenate(images[len(found) :]), ebv)
        field = np.repeat(np.arange(len(found)), [len(part) for part in parts])
        return cls([paths[len(paths) // 2].name for paths in found], field, z_spec, on_noise, real, farthest)


def measure_drawn(drawn: Drawn, grid: RedshiftGrid) -> tuple[list[Result], dict[str, Any]]:
    """Compare the galaxies in the fields with those on rendered sky."""
    a, b = (galaxy_scores(estimates.pdf, drawn.z_spec, grid) for estimates in (drawn.on_noise, drawn.real))
    pairs = metric_pairs(a, b)
    sigma_ratio, crps_ratio = (pairs[name].b.value / pairs[name].a.value for name in ("sigma_mad", "crps"))
    off = {
        name: [100 * abs(side.value - nominal) for side in (pairs[name].b, pairs[name].a)]
        for name, nominal in (("coverage_68", 0.6827), ("coverage_95", 0.9545))
    }
    flagged = is_flagged(drawn.real)
    results = [
        at_most("real fields: out of distribution, percent", 100 * flagged.mean(), 3.0),
        reported("rendered sky: out of distribution, percent", 100 * is_flagged(drawn.on_noise).mean()),
        at_most("real fields: sigma_mad, ratio to rendered sky", sigma_ratio, 1.08),
        at_most("real fields: CRPS, ratio to rendered sky", crps_ratio, 1.08),
        at_most("real fields: error of the 68 % coverage, percentage points", off["coverage_68"][0], 2.5),
        at_most("real fields: error of the 95 % coverage, percentage points", off["coverage_95"][0], 1.0),
        reported("rendered sky: error of the 68 % coverage, percentage points", off["coverage_68"][1]),
        reported("rendered sky: error of the 95 % coverage, percentage points", off["coverage_95"][1]),
    ]
    scores = {name: {"rendered sky": pair.a.value, "real fields": pair.b.value} for name, pair in pairs.items()}
    details = {
        "n": len(flagged),
        "out of distribution by field": {
            name: float(flagged[drawn.field == index].mean()) for index, name in enumerate(drawn.fields)
        },
        "groups of those": Counter(group for group, is_out in zip(drawn.farthest, flagged, strict=True) if is_out),
        "scores": scores,
    }
    return results, details


def measure_twice(model: Model, folder: Path) -> tuple[list[Result], dict[str, Any]]:
    """Compare the sources of a field that was observed twice, and count the flags of its galaxies and stars."""
    found = find_fields(folder, SDSS_IMAGES.bands)[0].values()
    epochs = [sources_of(read_field(paths, SDSS_IMAGES)) for paths in found]
    estimates, farthest = zip(*(model.predict(epoch.images) for epoch in epochs), strict=True)
    scaled, n_pairs = _differences(model, epochs, estimates)
    stars = [
        is_flagged(one)[~epoch.is_extended & (epoch.r > STARS[0]) & (epoch.r < STARS[1])]
        for epoch, one in zip(epochs, estimates, strict=True)
    ]
    extended = [row for task in zip(epochs, estimates, farthest, strict=True) for row in _describe_extended(*task)]
    results = [
        at_most("observed twice: pairs 3 sigma apart without a flag", (np.abs(scaled) > UNLIKE).sum(), 1),
        reported("observed twice: pairs", n_pairs),
        reported("observed twice: pairs without a flag", len(scaled)),
        reported("observed twice: rms of their difference, in sigma", float(np.sqrt(np.mean(scaled**2)))),
        reported("extended sources, 15 < r < 18.2, in both epochs", len(extended)),
        reported("... of which out of distribution", sum(row["flagged"] for row in extended)),
        at_least("stars, 15 < r < 18, in both epochs: out of distribution, percent", _percent(stars), 97.0),
        reported("number of these stars", sum(map(len, stars))),
    ]
    return results, {"extended sources": extended, "differences over noise": scaled.tolist()}


def _differences(model: Model, epochs: Sequence[Sources], estimates: Sequence[Estimates]) -> tuple[FloatArray, int]:
    """Return the differences of the pairs without a flag over the noise, and the number of all pairs."""
    match, distance, _ = epochs[0].position.match_to_catalog_sky(epochs[1].position)
    first = np.flatnonzero(distance.arcsec < SAME_PLACE)
    rows = (first, match[first])
    difference = np.subtract(*(one.z_mean[some] for one, some in zip(estimates, rows, strict=True)))
    noise = np.hypot(*(_noise_share(model, epoch.take(some)) for epoch, some in zip(epochs, rows, strict=True)))
    flagged = np.any([is_flagged(one)[some] for one, some in zip(estimates, rows, strict=True)], axis=0)
    return (difference / noise)[~flagged], len(first)


def _describe_extended(epoch: Sources, estimates: Estimates, farthest: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the extended sources of an epoch."""
    flagged = is_flagged(estimates)
    for row in np.flatnonzero(epoch.is_extended & (epoch.r > EXTENDED_R[0]) & (epoch.r < EXTENDED_R[1])):
        yield {
            "ra": float(epoch.position[row].ra.deg),
            "dec": float(epoch.position[row].dec.deg),
            "r": float(epoch.r[row]),
            **{name: float(getattr(estimates, name)[row]) for name in ("z_mean", "z_std", "ood_score")},
            "flagged": bool(flagged[row]),
            "farthest group": farthest[row],
        }


def _percent(parts: Sequence[BoolArray]) -> float:
    return float(100 * np.concatenate(parts).mean())


def _noise_share(model: Model, sources: Sources) -> FloatArray:
    """Return the standard deviation of z_mean that the noise of the pixels causes, (n,)."""
    sigma = measure_border(sources.images).noise / NOISE_OF_RESAMPLED
    n = len(sources.r)
    electrons = np.broadcast_to(sources.electrons, sigma.shape)
    sky = Sky(sigma, np.zeros_like(sigma), electrons, is_resampled=np.ones(n, bool))
    rng = np.random.default_rng(0)
    noisier = [model.predict(add_sky(sources.images, sky, rng))[0].z_mean for _ in range(AGAIN)]
    return np.std(noisier, axis=0, ddof=1)


def measure_m2(model: Model, folder: Path) -> list[Result]:
    """Count the flags of the isolated sources of the field of M2."""
    sources = real_field.read_sources(folder)
    flagged = is_flagged(model.predict(sources.cutouts, np.nan)[0])
    galaxy = sources.nearest(*real_field.GALAXY)
    return [
        at_least(f"M2: sources out of distribution, of {len(flagged)}", flagged.sum(), len(flagged) - 1),
        at_most("M2's galaxy: out of distribution", float(flagged[galaxy]), 0),
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science real_pixels", description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=SHIPPED)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--figure", type=Path, help="where to write the scatter of the galaxies drawn into the fields")
    parser.add_argument("--output", type=Path, default=RESULTS / "real-pixels.json")
    options = parser.parse_args(arguments)
    options.program = "real_pixels"
    bundle = ModelBundle.load(options.bundle)
    model = Model.of(bundle)
    drawn = Drawn.of(model, [options.folder / TWICE, options.folder / ONCE])
    in_fields, of_drawn = measure_drawn(drawn, bundle.card.grid)
    if options.figure:
        scores = summarise(galaxy_scores(drawn.real.pdf, drawn.z_spec, bundle.card.grid))
        figure = plots.scatter(drawn.z_spec, drawn.real.z_mean, scores=scores)
        options.figure.write_bytes(plots.render(figure, "png"))
    twice, of_twice = measure_twice(model, options.folder / TWICE)
    results = [*in_fields, *twice, *measure_m2(model, options.folder / ONCE)]
    return conclude(options, results, {"model": bundle.card.digest, "drawn": of_drawn, "twice": of_twice})
