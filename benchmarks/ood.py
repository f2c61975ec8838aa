"""What the out-of-distribution score of a bundle catches, on the test galaxies of data/sample.h5.

Each way to spoil a cutout is applied to every test galaxy; the table says which part of them gets which flag. The stars
have the fluxes and the seeing of the galaxies, without their extent.

    python -m benchmarks.ood [BUNDLE] [DATA]
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from photoz.bundle import ModelBundle
from photoz.datasets import TEST, Cutouts, open_cutouts
from photoz.estimates import Estimates, Flag
from photoz.images import EbvBatch, ImageSpec, as_ebv_batch, as_image_batch
from service.batch import Batch
from service.predictor import Predictor
from service.settings import ROOT, Settings
from training.catalogue import ZERO_POINT
from training.galaxies import Galaxies
from training.render import add_noise, render

BATCH = 256
POINT = 0.01  # arcsec, half-light radius of a star

Images = np.ndarray[Any, np.dtype[np.float32]]
Spoil = Callable[[Images, Galaxies, ImageSpec, np.random.Generator], Images]

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
    "a star": lambda images, galaxies, spec, rng: _star(galaxies, spec, rng),
    "blank sky": lambda images, galaxies, spec, rng: add_noise(np.zeros_like(images), galaxies, spec, rng),
    "10 pixels off": lambda images, *_: np.roll(images, 10, axis=1),
    "sky not subtracted": lambda images, *_: images + np.float32(0.1),
}


def _star(galaxies: Galaxies, spec: ImageSpec, rng: np.random.Generator) -> Images:
    points = replace(galaxies, half_light_radius=np.full(len(galaxies), POINT), axis_ratio=np.ones(len(galaxies)))
    return add_noise(render(points, spec), points, spec, rng)


def main(bundle_path: Path, data: Path) -> None:
    """Print the table."""
    bundle = ModelBundle.load(bundle_path)
    predictor = Predictor(bundle, Settings.from_environment())
    with open_cutouts(data) as cutouts:
        rows = cutouts.rows(TEST)
        print(f"{bundle.card.name} {bundle.card.version}, {len(rows)} test galaxies of {data}; percent of them\n")
        print(
            "| | flagged | out of distribution | low S/N | median score / threshold |\n| --- | --- | --- | --- | --- |"
        )
        for name, spoil in SPOILT.items():
            print(f"| {name} | {_line(bundle, predictor, cutouts, rows, spoil)} |")


def _line(bundle: ModelBundle, predictor: Predictor, cutouts: Cutouts, rows: Any, spoil: Spoil) -> str:
    parts = list(_estimates(bundle, predictor, cutouts, rows, spoil))
    score, flags = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ood_score", "flags"))
    chosen = (Flag.OUT_OF_DISTRIBUTION | Flag.LOW_SNR, Flag.OUT_OF_DISTRIBUTION, Flag.LOW_SNR)
    caught = (f"{100 * np.mean((flags & flag) > 0):.1f}" for flag in chosen)
    threshold = bundle.card.novelty.threshold if bundle.card.novelty else np.nan
    return " | ".join([*caught, f"{np.median(score) / threshold:.2f}"])


def _estimates(
    bundle: ModelBundle, predictor: Predictor, cutouts: Cutouts, rows: Any, spoil: Spoil
) -> Iterator[Estimates]:
    card, rng = bundle.card, np.random.default_rng(0)
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        spoilt = spoil(cutouts.read_images(some), _galaxies(cutouts, some), card.image, rng)
        ebv: EbvBatch = as_ebv_batch(cutouts.column("ebv")[some], len(some), card.inputs.ebv_assumed)
        yield predictor.predict(Batch(as_image_batch(spoilt, card.image), ebv, None))


def _galaxies(cutouts: Cutouts, rows: Any) -> Galaxies:
    shapes = {field.name: cutouts.column(field.name)[rows] for field in fields(Galaxies) if field.name != "fluxes"}
    return Galaxies(10.0 ** (0.4 * (ZERO_POINT - cutouts.column("magnitudes")[rows])), **shapes)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(*given, *(ROOT / "models" / "photoz", ROOT / "data" / "sample.h5")[len(given) :])
