"""`make docs`: write the parts of the docs that describe the shipped model, from its card and its test galaxies.

It writes scores between the marks in README.md, the model card to docs/model-card.md, and figures to docs/scatter.png,
docs/pdfs.png, docs/galaxies.png and, if the frames of `benchmarks.science real_field` are there, docs/real-galaxy.png
and docs/sky-cutouts.png. The figure docs/real-pixels.png is that of `benchmarks.science real_pixels`.
"""

import bz2
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from photoz.grid import FloatArray, RedshiftGrid
from photoz.io.cutouts import Cutouts
from photoz.metrics import Score
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MODEL_CARD, MODEL_CARD_TEMPLATE = ROOT / "docs" / "model-card.md", ROOT / "docs" / "model-card.md.jinja"
REAL_PIXELS = ROOT / "benchmarks" / "results" / "real-pixels.json"
METRICS = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
README_METHODS = (
    "this model",
    "local linear regression, catalogue photometry",
    "local linear regression, aperture fluxes of the cutouts",
)
MARKS = re.compile(r"(<!-- scores -->\n).*(<!-- /scores -->)", re.DOTALL)


def score_table(scores: Mapping[str, Mapping[str, Score]], metrics: Sequence[str] = METRICS) -> str:
    """Format scores as a Markdown table, one line per method."""
    lines = ["| method | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
    for method, values in scores.items():
        name = f"**{method}**" if method == "this model" else method
        cells = [str(values[metric]) if metric in values else "" for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_scores(text: str, card: Card) -> str:
    """Return the README with scores of a card between its marks."""
    if card.test is None:
        raise ValueError(f"{card.name} was not tested: its card has no scores")
    table = score_table({method: card.test.scores[method] for method in README_METHODS}, METRICS[:4])
    return MARKS.sub(lambda marks: marks[1] + table + marks[2], text)


def model_card(card: Card) -> str:
    """Write the model card as Markdown."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(MODEL_CARD_TEMPLATE.read_text(encoding="utf-8")).render(
        card=card,
        dust=list(zip(card.image.bands, card.image.extinction_coefficients, strict=True)),
        is_rendered="rendered" in card.training.data,
        score_table=score_table,
        asdict=asdict,
        real=real_pixels(card),
    )


def real_pixels(card: Card) -> Any:
    """Return the record of `benchmarks.science real_pixels`, or None if it is not of this model."""
    record = json.loads(REAL_PIXELS.read_text(encoding="utf-8")) if REAL_PIXELS.exists() else {}
    return record if record.get("model") == card.digest else None


def write_pdfs(bundle: ModelBundle) -> None:
    """Draw the PDFs of the galaxies in examples/cutouts.npz, and four of the galaxies above their PDFs."""
    from benchmarks.science.real_field import predict
    from photoz import plots

    with np.load(ROOT / "examples" / "cutouts.npz") as file:
        images, z_spec = file["images"], file["z_spec"]
        pdfs = predict(bundle, images, file["ebv"]).pdf
    figure = plots.pdf_panels(pdfs, bundle.card.grid, z_spec)
    (ROOT / "docs" / "pdfs.png").write_bytes(plots.render(figure, "png"))
    shown = [0, 6, 4, 2]  # every second one, by redshift
    figure = galaxies_and_pdfs(images[shown], pdfs[shown], z_spec[shown], bundle.card.grid)
    figure.savefig(ROOT / "docs" / "galaxies.png", dpi=160, metadata={"Software": None})


def galaxies_and_pdfs(images: FloatArray, pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid) -> Figure:
    """Draw galaxies in i, r and g, and below each its p(z) with the 68 % interval and the true redshift."""
    from astropy.visualization import make_lupton_rgb

    from photoz import pdf
    from photoz.plots.style import BLUE, GREEN

    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    panels = figure.subplots(2, len(images), height_ratios=[1.4, 1.0])
    for (above, below), image, masses, z in zip(panels.T, images, pdfs, z_spec, strict=True):
        above.imshow(make_lupton_rgb(image[..., 3], image[..., 2], image[..., 1], stretch=0.8, Q=5), origin="lower")
        above.set_axis_off()
        density, ((low,), (high,)) = masses / grid.width, pdf.shortest_interval(masses[np.newaxis], grid, 0.68)
        below.stairs(density, grid.edges, color=BLUE, label="p(z)")
        below.stairs(density, np.clip(grid.edges, low, high), fill=True, color=BLUE, alpha=0.3, label="68 %")
        below.axvline(z, color=GREEN, label="spectroscopic redshift")
        below.set(xlim=(0.0, 0.25), ylim=(0.0, 1.1 * density.max()), yticks=[], xlabel="redshift")
        below.spines[["left", "top", "right"]].set_visible(False)
    figure.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def write_real_galaxy(bundle: ModelBundle, sample: Cutouts) -> None:
    """Draw the PDF of the galaxy in the real frames, and the catalogue method's estimate from the same pixels."""
    from benchmarks.science.real_field import FOLDER, GALAXY, GALAXY_EBV, catalogue_method, predict, read_sources
    from photoz import plots

    sources = read_sources(FOLDER)
    cutouts, ebv = sources.cutouts[[sources.nearest(*GALAXY)]], np.array([GALAXY_EBV])
    estimates, (z, error) = predict(bundle, cutouts, ebv), catalogue_method(cutouts, ebv, sample)
    grid = bundle.card.grid
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.subplots()
    label = f"this model: {estimates.z_mean[0]:.3f} ± {estimates.z_std[0]:.3f}"
    axes.plot(grid.centres, estimates.pdf[0] / grid.width, color="C0", label=label)
    label = f"catalogue method: {z[0]:.3f} ± {error[0]:.3f}"
    axes.axvspan(z[0] - error[0], z[0] + error[0], color="C1", alpha=0.3, label=label)
    axes.set(xlabel="redshift", ylabel="probability density", xlim=(0.1, 0.3), ylim=(0.0, None))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    (ROOT / "docs" / "real-galaxy.png").write_bytes(plots.render(figure, "png"))


def write_contact_sheet() -> None:
    """Draw `photoz sky` cutouts of isolated, unsaturated sources in the real frames, in i, r and g."""
    from astropy.visualization import make_lupton_rgb
    from PIL import Image

    from benchmarks.science.real_field import FIELD, FOLDER, read_sources
    from photoz.images import SDSS_IMAGES
    from photoz.io.frame import cut
    from photoz_survey.sky.cutting import read_frame

    frames = []
    for band in "irg":
        with bz2.open(FOLDER / f"frame-{band}-{FIELD}.fits.bz2") as file:
            frames.append(read_frame(file))
    sources = read_sources(FOLDER)
    size, scale, shown = SDSS_IMAGES.size, SDSS_IMAGES.pixel_scale, np.flatnonzero(sources.r > 16.5)[:24]
    tiles = []
    for x, y in zip(sources.x[shown], sources.y[shown], strict=True):
        ra, dec = map(float, frames[1].wcs.all_pix2world(x, y, 0))
        tile = make_lupton_rgb(*(cut(frame, ra, dec, size, scale) for frame in frames), stretch=0.5, Q=8)
        tiles.append(np.pad(tile[::-1], ((2, 2), (2, 2), (0, 0)), constant_values=255))
    sheet = np.vstack([np.hstack(tiles[row : row + 8]) for row in range(0, len(tiles), 8)])
    Image.fromarray(sheet).save(ROOT / "docs" / "sky-cutouts.png")


def main() -> None:
    """Write scores, model card and figures."""
    from benchmarks.science.real_field import FOLDER
    from photoz import metrics, pdf, plots
    from photoz.io.cutouts import TEST
    from photoz.io.reader import open_cutouts
    from training.trained_model import TrainedModel

    bundle = ModelBundle.load(ROOT / "models" / "photoz")
    grid = bundle.card.grid
    README.write_text(with_scores(README.read_text(encoding="utf-8"), bundle.card), encoding="utf-8")
    MODEL_CARD.write_text(model_card(bundle.card), encoding="utf-8")
    write_pdfs(bundle)
    with open_cutouts(ROOT / "data" / "sample.h5") as cutouts:
        rows = cutouts.rows(TEST)
        pdfs, z_spec = TrainedModel.load(bundle).predict(cutouts, rows).pdfs, cutouts.column("z_spec")[rows]
        if FOLDER.is_dir():
            write_real_galaxy(bundle, cutouts)
            write_contact_sheet()
    scores = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid))
    figure = plots.scatter(z_spec, pdf.mean(pdfs, grid), scores=scores)
    (ROOT / "docs" / "scatter.png").write_bytes(plots.render(figure, "png"))


if __name__ == "__main__":
    main()
