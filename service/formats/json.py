"""JSON request bodies: decoded, validated, and turned into arrays."""

import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from photoz.errors import InvalidImages, InvalidInput, MalformedInput
from service.errors import shortened
from service.steps import without_collector

M = TypeVar("M", bound=BaseModel)

# Bytes of memory for each list, object and element while it is decoded and validated, by measurement
# (docs/decisions.md): honest cutouts become eight times as large, empty lists 67 times.
BYTES_PER_TOKEN = {b"[": 192, b"{": 512, b",": 64}


def estimate_memory(content: bytes) -> int:
    """Return about how many bytes JSON, or a part of it, takes while it is decoded."""
    return sum(size * content.count(token) for token, size in BYTES_PER_TOKEN.items())


@without_collector()
def decode(body: bytes, model: type[M]) -> M:
    """Decode an object with the fields of `model`; raises `MalformedInput` or `InvalidInput`."""
    try:
        content = from_json(body)
    except ValueError as error:
        raise MalformedInput(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"expected a JSON object, got a {type(content).__name__}")
    expected = ", ".join(model.model_fields)
    if unknown := content.keys() - model.model_fields.keys():
        raise InvalidInput(f"{min(unknown)[:40]}: extra inputs are not permitted; expected {expected}")
    if "images" in content and _depth(content["images"]) == 3:  # one cutout without the first axis
        content["images"] = [content["images"]]
    return validated(model, content, strict=True)


def _depth(content: Any) -> int:
    depth = 0
    while isinstance(content, list) and content:
        content, depth = content[0], depth + 1
    return depth


def validated(model: type[M], content: Mapping[str, Any], *, strict: bool) -> M:
    """Validate decoded content; raises `InvalidInput` with the first thing that is wrong in one sentence."""
    try:
        return model.model_validate(content, strict=strict)
    except ValidationError as error:
        raise InvalidInput(describe(error)) from error


def as_arrays(message: BaseModel) -> dict[str, npt.NDArray[Any]]:
    """Return the fields that are given as arrays by name; numbers become float64, with NaN for null."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in ("images", "pdfs", "z_spec", "ebv", "magnitudes"):
        if (values := getattr(message, name, None)) is not None:
            try:
                arrays[name] = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise InvalidImages(f"{name} do not form a regular array: {error}") from error
    if (names := getattr(message, "object_id", None)) is not None:
        arrays["object_id"] = np.array(names, dtype=object)  # as text, each would take the memory of the longest
    return arrays


def describe(error: ValidationError) -> str:
    """Describe a validation error in a sentence, such as "images.0.3.2.1: input should be a valid number, got 'a'"."""
    first, *others = error.errors(include_url=False, include_context=False)
    # After the name of the field only indices: the rest are pydantic's names for the branches of a union.
    place = [str(part) for i, part in enumerate(first["loc"]) if i == 0 or isinstance(part, int)]
    message = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] not in ("missing", "extra_forbidden"):
        message += f", got {shortened(reprlib.repr(first['input']), 40)}"
    more = f" (and {len(others)} more such errors)" if others else ""
    return f"{'.'.join(place) or 'the body'}: {message}{more}"
