"""`make docs`: what the documents say of the shipped model, written from its card and its test galaxies.

The scores go between the marks in README.md; the model card is docs/model-card.md; the picture is docs/scatter.png.
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
FIGURES = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
MARKS = re.compile(r"(<!-- scores -->\n).*(<!-- /scores -->)", re.DOTALL)


def score_table(card: Card) -> str:
    """Lay out the scores of a card as a Markdown table, one line a method."""
    if card.test is None:
        raise ValueError(f"{card.name} was not tested: its card has no scores")
    return _table(card.test.scores)


def _table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    lines = ["| | " + " | ".join(FIGURES) + " |", "| --- |" + " --- |" * len(FIGURES)]
    for method, found in scores.items():
        name = f"**{method}**" if method == "this model" else method
        lines.append(f"| {name} | " + " | ".join(_cell(found.get(figure)) for figure in FIGURES) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: Score | None) -> str:
    return "" if score is None else str(score)


def with_scores(text: str, card: Card) -> str:
    """Return the README with the scores of a card between its marks."""
    return MARKS.sub(lambda marks: marks[1] + score_table(card) + marks[2], text)


def model_card(card: Card) -> str:
    """Write what a model is, what it may be used for and how good it is, from its card, as Markdown."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    calibration = getattr(card, "calibration", None)
    return environment.from_string(MODEL_CARD_TEMPLATE.read_text(encoding="utf-8")).render(
        card=card,
        size=card.image.size,
        is_rendered="rendered" in card.training.data,
        scores=None if card.test is None else score_table(card),
        calibration=calibration,
        parameters=None if calibration is None else asdict(calibration.parameters),
        calibration_scores=None if calibration is None else _table(calibration.scores),
        ood=getattr(card, "ood", None),
    )


def main() -> None:
    """Write all three."""
    import keras

    from photoz import calibration, metrics, pdf, plots
    from photoz.io.cutouts import TEST
    from photoz.io.reader import open_cutouts
    from training.predict import predict_pdfs

    bundle = ModelBundle.load(ROOT / "models" / "photoz")
    card = bundle.card
    README.write_text(with_scores(README.read_text(encoding="utf-8"), card), encoding="utf-8")
    MODEL_CARD.write_text(model_card(card), encoding="utf-8")
    model = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
    with open_cutouts(ROOT / "data" / "sample.h5") as cutouts:
        rows = cutouts.rows(TEST)
        pdfs = predict_pdfs(model, cutouts, rows, card.image, card.inputs.ebv_assumed)
        pdfs = calibration.apply(pdfs, bundle.calibration)
        z_spec = cutouts.column("z_spec")[rows]
    scores = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, card.grid))
    figure = plots.scatter(z_spec, pdf.mean(pdfs, card.grid), scores=scores)
    (ROOT / "docs" / "scatter.png").write_bytes(plots.render(figure, "png"))


if __name__ == "__main__":
    main()
