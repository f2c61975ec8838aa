"""`make docs`: what the documents say of the shipped model, written from its card and its test galaxies.

The scores go between the marks in README.md; the picture is docs/scatter.png.
"""

import re
from pathlib import Path

from photoz.bundle import Card, ModelBundle
from photoz.metrics import Score

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FIGURES = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
MARKS = re.compile(r"(<!-- scores -->\n).*(<!-- /scores -->)", re.DOTALL)


def score_table(card: Card) -> str:
    """Lay out the scores of a card as a Markdown table, one line a method."""
    if card.test is None:
        raise ValueError(f"{card.name} was not tested: its card has no scores")
    lines = ["| | " + " | ".join(FIGURES) + " |", "| --- |" + " --- |" * len(FIGURES)]
    for method, found in card.test.scores.items():
        name = f"**{method}**" if method == "this model" else method
        lines.append(f"| {name} | " + " | ".join(_cell(found.get(figure)) for figure in FIGURES) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: Score | None) -> str:
    return "" if score is None else str(score)


def with_scores(text: str, card: Card) -> str:
    """Return the README with the scores of a card between its marks."""
    return MARKS.sub(lambda marks: marks[1] + score_table(card) + marks[2], text)


def main() -> None:
    """Write both."""
    import keras

    from photoz import metrics, pdf, plots
    from photoz.datasets import TEST, open_cutouts
    from training.predict import predict_pdfs

    bundle = ModelBundle.load(ROOT / "models" / "photoz")
    card = bundle.card
    README.write_text(with_scores(README.read_text(encoding="utf-8"), card), encoding="utf-8")
    model = keras.models.load_model(bundle.keras_path, compile=False)
    with open_cutouts(ROOT / "data" / "sample.h5") as cutouts:
        rows = cutouts.rows(TEST)
        pdfs = predict_pdfs(model, cutouts, rows, card.image, card.inputs.ebv_assumed)
        z_spec = cutouts.column("z_spec")[rows]
    scores = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, card.grid))
    figure = plots.scatter(z_spec, pdf.mean(pdfs, card.grid), scores=scores)
    (ROOT / "docs" / "scatter.png").write_bytes(plots.render(figure, "png"))


if __name__ == "__main__":
    main()
