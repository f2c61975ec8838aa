"""Lines of text that the command `photoz` prints."""

from photoz.errors import counted
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.metrics import Score
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse


def evaluation_text(evaluation: EvaluateResponse) -> list[str]:
    """Format the metrics with their errors, and the names of the galaxies that were left out."""
    lines = [
        f"{counted(evaluation.n_galaxies, 'galaxy')}, model {evaluation.model}",
        *_score_lines(evaluation.scores),
    ]
    if dropped := evaluation.dropped:
        shown = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
        lines.append(f"left out, z_spec not on the grid: {len(dropped)} ({shown})")
    return lines


def card_text(card: Card) -> list[str]:
    """Format what a user needs to know about a model."""
    grid, training = card.grid, card.training
    lines = [
        f"{card.name} {card.version}, made {card.created:%Y-%m-%d}, licence {card.licence}",
        f"takes     {image_text(card.image)}",
        f"E(B-V)    {_ebv_text(card)}",
        f"gives     p(z) in {grid_text(grid)}",
        f"network   {card.architecture.name}, {card.architecture.parameters:,} parameters",
        f"trained   on {counted(training.n_train, 'galaxy')}: {training.data}",
    ]
    if card.test is not None:
        lines.append(f"tested    on {counted(card.test.n_galaxies, 'galaxy')}: {card.test.data}")
        for method, scores in card.test.scores.items():
            lines += [f"  {method}", *(f"  {line}" for line in _score_lines(scores))]
    return [*lines, *(f"caveat    {caveat}" for caveat in card.caveats)]


def image_text(image: ImageSpec) -> str:
    """Describe the cutouts that a model takes."""
    size = f"{image.size} x {image.size} x {len(image.bands)}"
    return f"{size} cutouts, bands {','.join(image.bands)}, {image.pixel_scale:g} arcsec/pixel, {image.unit}"


def grid_text(grid: RedshiftGrid) -> str:
    """Describe the bins of a grid."""
    return f"{grid.n_bins} bins, 0 <= z <= {grid.z_max:g}"


def _ebv_text(card: Card) -> str:
    if not card.inputs.ebv:
        return "not used"
    if card.inputs.ebv_assumed is None:
        return "used; PDFs are broader if it is not given"
    return f"used; {card.inputs.ebv_assumed:.3f} mag is assumed if it is not given"


def _score_lines(scores: dict[str, Score]) -> list[str]:
    width = max((len(name) for name in scores), default=0)
    return [f"  {name:<{width}}  {score.value:8.4f} ± {score.error:.4f}" for name, score in scores.items()]
