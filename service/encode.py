"""From results to a response: which media type the caller wants, and the bytes of it."""

from collections.abc import Iterable, Sequence

from starlette.responses import Response

from photoz.estimates import Estimates
from photoz.io import npz, tables
from photoz.model.card import Card
from photoz.protocol import contract
from service.errors import NotAcceptable

PREDICTIONS = (contract.JSON, contract.CSV, contract.NPZ)


def model_label(card: Card) -> str:
    """Return the name and version of a model, as they go into each answer."""
    return f"{card.name} {card.version}".encode("ascii", "replace").decode("ascii")


def evaluations(options: contract.EvaluateOptions) -> tuple[str, ...]:
    """Return the media types that an evaluation can be answered in."""
    plots = (contract.PNG, contract.SVG)
    return plots if options.plot else (contract.JSON, contract.HTML, *plots)


def negotiate(accept: str, offered: Sequence[str]) -> str:
    """Choose a media type (RFC 9110, sec. 12.5.1).

    Parameters
    ----------
    accept : str
        The Accept header.
    offered : sequence of str
        Media types, the preferred one first.

    Returns
    -------
    str
        The one that the caller likes best; of equals, the first offered.

    Raises
    ------
    NotAcceptable
        If the caller likes none.
    """
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    quality = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(offered, key=quality.__getitem__)
    if quality[best] <= 0.0:
        raise NotAcceptable(f"cannot answer as {accept}: expected any of {', '.join(offered)}")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _quality(media_type: str, ranges: Iterable[tuple[str, float]]) -> float:
    """Return the quality that the most specific of the ranges that fit gives."""
    specificity = {media_type: 2, media_type.partition("/")[0] + "/*": 1, "*/*": 0}
    fitting = [(specificity[name], quality) for name, quality in ranges if name in specificity]
    return max(fitting)[1] if fitting else 0.0


def predictions(estimates: Estimates, media_type: str, label: str) -> Response:
    """Write estimates.

    Parameters
    ----------
    estimates : Estimates
        n rows.
    media_type : str
        One of `PREDICTIONS`.
    label : str
        Name and version of the model.

    Returns
    -------
    Response
        With the columns of the contract.
    """
    match media_type:
        case contract.CSV:
            content = tables.csv_bytes(estimates)
        case contract.NPZ:
            content = npz.npz_bytes(dict(estimates.columns()))
        case _:
            content = tables.json_bytes(estimates, label)
    return Response(content, media_type=media_type)
