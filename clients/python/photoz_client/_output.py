"""What the command `photoz` prints and the files that it writes."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from photoz.estimates import Flag
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.npz import npz_bytes
from photoz.io.tables import csv_bytes, json_bytes
from photoz.metrics import Score
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client._prediction import Prediction


def _json_bytes(prediction: Prediction) -> bytes:
    return json_bytes(prediction, prediction.model)


def _npz_bytes(prediction: Prediction) -> bytes:
    """One array a column, and `model`."""
    return npz_bytes({**dict(prediction.columns()), "model": np.array(prediction.model)})


FILE_FORMATS: dict[str, Callable[[Prediction], bytes]] = {
    ".csv": csv_bytes,
    ".json": _json_bytes,
    ".npz": _npz_bytes,
}


def write(prediction: Prediction, path: Path) -> None:
    """Write the columns to a file whose suffix, one of `FILE_FORMATS`, says how."""
    path.write_bytes(FILE_FORMATS[path.suffix.lower()](prediction))


def write_csv(parts: Iterable[Prediction], path: Path) -> Iterator[int]:
    """Write estimates to a `.csv` file as they come; yields the rows of each part. Without a part there is no file."""
    for i, prediction in enumerate(parts):
        head, _, lines = csv_bytes(prediction).partition(b"\n")
        with path.open("ab" if i else "wb") as file:
            file.write(lines if i else head + b"\n" + lines)
        yield len(prediction)


def prediction_table(prediction: Prediction) -> str:
    """Lay out the estimates for reading: one line a galaxy, flags by name."""
    width = max(len("object_id"), *(len(name) for name in prediction.object_id.tolist()))
    head = f"{'object_id':<{width}}  z_mean  z_lo68  z_hi68   odds  flags"
    columns = (prediction.z_mean, prediction.z_lo68, prediction.z_hi68, prediction.odds)
    rows = zip(prediction.object_id.tolist(), *columns, prediction.flags.tolist(), strict=True)
    lines = (
        f"{name:<{width}}  {z:6.4f}  {low:6.4f}  {high:6.4f}  {odds:5.3f}  {flag_names(flags)}"
        for name, z, low, high, odds, flags in rows
    )
    return "\n".join([head, *lines])


def flag_names(flags: int) -> str:
    """Names of the raised flags, joined by |; a dash for none."""
    return "|".join(str(flag.name) for flag in Flag(flags)) or "-"


def evaluation_text(evaluation: EvaluateResponse) -> str:
    """Lay out the figures with their errors, and name the galaxies that were left out."""
    lines = [f"{evaluation.n_galaxies} galaxies, model {evaluation.model}", *_score_lines(evaluation.scores)]
    if dropped := evaluation.dropped:
        shown = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
        lines.append(f"left out, z_spec not on the grid: {len(dropped)} ({shown})")
    return "\n".join(lines)


def card_text(card: Card) -> str:
    """Lay out what a user needs to know of a model."""
    grid, training = card.grid, card.training
    lines = [
        f"{card.name} {card.version}, made {card.created:%Y-%m-%d}, licence {card.licence}",
        f"takes     {image_text(card.image)}",
        f"E(B-V)    {_ebv_text(card)}",
        f"gives     p(z) in {grid_text(grid)}",
        f"network   {card.architecture.name}, {card.architecture.parameters:,} parameters",
        f"trained   on {training.n_train:,} galaxies: {training.data}",
    ]
    if card.test is not None:
        lines.append(f"tested    on {card.test.n_galaxies:,} galaxies: {card.test.data}")
        for method, scores in card.test.scores.items():
            lines += [f"  {method}", *(f"  {line}" for line in _score_lines(scores))]
    return "\n".join([*lines, *(f"caveat    {caveat}" for caveat in card.caveats)])


def image_text(image: ImageSpec) -> str:
    """Say what cutouts have to be like."""
    size = f"{image.size} x {image.size} x {len(image.bands)}"
    return f"{size} cutouts, bands {','.join(image.bands)}, {image.pixel_scale:g} arcsec/pixel, {image.unit}"


def grid_text(grid: RedshiftGrid) -> str:
    """Say what the bins of a grid are."""
    return f"{grid.n_bins} bins, 0 <= z <= {grid.z_max:g}"


def _ebv_text(card: Card) -> str:
    if not card.inputs.ebv:
        return "not used"
    return f"used; {card.inputs.ebv_assumed:.3f} mag is assumed where it is not given"


def _score_lines(scores: dict[str, Score]) -> list[str]:
    width = max((len(name) for name in scores), default=0)
    return [f"  {name:<{width}}  {score.value:8.4f} ± {score.error:.4f}" for name, score in scores.items()]
