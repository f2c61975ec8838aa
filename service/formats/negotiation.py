"""Content negotiation: media types of requests and responses, and options in the query string."""

from collections.abc import Sequence
from http import HTTPStatus

from photoz.errors import InvalidInput, UnsupportedType
from photoz.io.formats import FORMATS, HTML, JSON, PNG, SVG
from photoz.protocol.contract import M, validated
from service.errors import RequestError
from service.request import Request

OCTETS = "application/octet-stream"
FILE_TYPES = (OCTETS, *(format.media_type for format in FORMATS if format.received))

# Types of any body: none, and that of forms, as which curl sends --data and --data-binary unless it is given a type.
UNTYPED = ("", "application/x-www-form-urlencoded")

# Media types of predictions, the default first.
PREDICTIONS = (JSON.media_type, *(format.media_type for format in FORMATS if format.written and format is not JSON))

# Media types of tables that were predicted before.
TABLES = tuple(media_type for media_type in PREDICTIONS if media_type != JSON.media_type)

PLOTS = (PNG.media_type, SVG.media_type)
EVALUATIONS = (JSON.media_type, HTML.media_type, *PLOTS)


def check_no_query(request: Request) -> None:
    """Raise `InvalidInput` if a request has query options."""
    if request.query:
        raise InvalidInput(f"expected no options, got ?{next(iter(request.query))}")


def query_options(request: Request, model: type[M]) -> M:
    """Read the query string; raises `InvalidInput` for an option, or a value, that `model` does not have."""
    if not request.query:
        return model()
    if unknown := sorted(set(request.query) - set(model.model_fields)):
        raise InvalidInput(f"there is no option ?{unknown[0]}; expected any of {', '.join(model.model_fields)}")
    return validated(model, request.query, strict=False)


def check_type(request: Request, expected: tuple[str, ...], advice: str = "") -> None:
    """Raise `UnsupportedType`, with advice, if the body of a request is of another type, or encoded."""
    if request.content_encoding:
        raise UnsupportedType(
            f"cannot read Content-Encoding {request.content_encoding[:40]} here: expected the body as it is; only the "
            "inference of /v2 takes gzip and deflate"
        )
    if request.media_type not in (*expected, *UNTYPED):
        message = f"cannot read {request.media_type}: expected {', '.join(expected)}"
        raise UnsupportedType(f"{message} ({advice})" if advice else message)


def negotiate(accept: str, offered: Sequence[str]) -> str:
    """Choose the offered type of the highest quality in an Accept header, the first of equals (RFC 9110, 12.5.1)."""
    if accept == "*/*":
        return offered[0]
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    quality = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(offered, key=quality.__getitem__)
    if quality[best] <= 0.0:
        raise RequestError(
            HTTPStatus.NOT_ACCEPTABLE, f"cannot answer as {accept}: expected any of {', '.join(offered)}"
        )
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches."""
    specificity = {media_type: 2, media_type.partition("/")[0] + "/*": 1, "*/*": 0}
    matching = [(specificity[name], quality) for name, quality in ranges if name in specificity]
    return max(matching)[1] if matching else 0.0
