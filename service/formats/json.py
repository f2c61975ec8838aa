"""JSON request bodies: decoded, validated, and turned into arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from pydantic_core import from_json

from photoz.errors import InvalidImages, InvalidInput, MalformedInput
from photoz.protocol.contract import M, validated
from service.steps import without_collector

# Bytes of memory for each list, object, element and key while it is decoded and validated, by measurement
# (docs/decisions.md): honest cutouts become eight times as large, empty lists 67 times.
BYTES_PER_TOKEN = {b"[": 192, b"{": 512, b",": 64, b":": 192}


def estimate_memory(content: bytes) -> int:
    """Return about how many bytes JSON, or a part of it, takes while it is decoded."""
    return sum(size * content.count(token) for token, size in BYTES_PER_TOKEN.items())


@without_collector()
def decode(body: bytes, model: type[M]) -> M:
    """Decode an object with the fields of `model`; raises `MalformedInput` or `InvalidInput`."""
    try:
        content = from_json(body, cache_strings="none")
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
