"""`make docs`: write the parts of the documents that describe the shipped model, from its card and its test galaxies.

The scores are written between the marks in README.md, the model card to docs/model-card.md, the figure to
docs/scatter.png.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from photoz.metrics import Score
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MODEL_CARD, MODEL_CARD_TEMPLATE = ROOT / "docs" / "model-card.md", ROOT / "docs" / "model-card.md.jinja"
METRICS = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
MARKS = re.compile(r"(<!-- scores -->\n).*(<!-- /scores -->)", re.DOTALL)


def score_table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """Format scores as a Markdown table, one line per method."""
    lines = ["| | " + " | ".join(METRICS) + " |", "| --- |" + " --- |" * len(METRICS)]
    for method, found in scores.items():
        name = f"**{method}**" if method == "this model" else method
        cells = [str(found[metric]) if metric in found else "" for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_scores(text: str, card: Card) -> str:
    """Return the README with the scores of a card between its marks."""
    if card.test is None:
        raise ValueError(f"{card.name} was not tested: its card has no scores")
    table = score_table(card.test.scores)
    return MARKS.sub(lambda marks: marks[1] + table + marks[2], text)


def model_card(card: Card) -> str:
    """Write the model card as Markdown."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(MODEL_CARD_TEMPLATE.read_text(encoding="utf-8")).render(
        card=card, is_rendered="rendered" in card.training.data, score_table=score_table, asdict=asdict
    )


def main() -> None:
    """Write all three."""
    from photoz import metrics, pdf, plots
    from photoz.io.cutouts import TEST
    from photoz.io.reader import open_cutouts
    from training.predict import Model

    bundle = ModelBundle.load(ROOT / "models" / "photoz")
    grid = bundle.card.grid
    README.write_text(with_scores(README.read_text(encoding="utf-8"), bundle.card), encoding="utf-8")
    MODEL_CARD.write_text(model_card(bundle.card), encoding="utf-8")
    with open_cutouts(ROOT / "data" / "sample.h5") as cutouts:
        rows = cutouts.rows(TEST)
        pdfs, z_spec = Model.load(bundle).predict(cutouts, rows).pdfs, cutouts.column("z_spec")[rows]
    scores = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid))
    figure = plots.scatter(z_spec, pdf.mean(pdfs, grid), scores=scores)
    (ROOT / "docs" / "scatter.png").write_bytes(plots.render(figure, "png"))


if __name__ == "__main__":
    main()
