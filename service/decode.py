"""From a request to plain arrays by name: the formats of the bodies, and nothing about what they mean."""

import io
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from photoz.errors import InvalidImages, InvalidInput, MalformedInput, UnsupportedType
from photoz.io.npz import MAX_MEMBERS, read_array, read_arrays
from photoz.protocol import contract
from service import aside
from service.call import Call
from service.errors import readable

Arrays = dict[str, npt.NDArray[Any]]

# curl sends --data and --data-binary as a form unless told otherwise.
FORM = "application/x-www-form-urlencoded"
OCTETS = "application/octet-stream"
JSON_TYPES = ("", contract.JSON, FORM)
FILE_TYPES = ("", OCTETS, contract.NPY, contract.NPZ, FORM)

NPY_MAGIC, ZIP_MAGIC, ZIP_ENTRY = b"\x93NUMPY", b"PK\x03\x04", b"PK\x01\x02"

M = TypeVar("M", bound=BaseModel)


def predict_json(call: Call) -> tuple[Arrays, contract.PredictOptions]:
    """Decode the body of `/predict`.

    Parameters
    ----------
    call : Call
        Its body is the JSON of a `contract.PredictRequest`.

    Returns
    -------
    arrays : dict
        `images` and, where given, `ebv` and `object_id`; null has become NaN.
    options : PredictOptions
        What to answer.

    Raises
    ------
    UnsupportedType, MalformedInput, InvalidInput
        By what is wrong.
    """
    _check_type(call, JSON_TYPES, "/predict_file takes files")
    if call.query:
        raise InvalidInput(f"expected the options in the JSON body, got ?{next(iter(call.query))} in the address")
    request = _message(call.body, contract.PredictRequest)
    return _arrays(request), contract.PredictOptions(pdf=request.pdf)


def predict_file(call: Call, max_bytes: int) -> tuple[Arrays, contract.PredictOptions]:
    """Decode the body of `/predict_file`.

    Parameters
    ----------
    call : Call
        Its body is a `.npy` or a `.npz` file, told apart by their first bytes.
    max_bytes : int
        What a `.npz` file may take when unpacked.

    Returns
    -------
    arrays : dict
        `images` and whatever else a `.npz` file holds; `ebv` from the query string where the file has none.
    options : PredictOptions
        From the query string.

    Raises
    ------
    UnsupportedType, MalformedInput, TooLarge, InvalidInput, InvalidDataset
        By what is wrong.
    """
    _check_type(call, FILE_TYPES, "/predict takes JSON")
    options = query_options(call, contract.PredictOptions)
    arrays = _read_file(call, max_bytes)
    if options.ebv is not None:
        arrays.setdefault("ebv", np.array(options.ebv))
    return arrays, options


def evaluation(call: Call, max_bytes: int) -> Arrays:
    """Decode the body of `/evaluate`.

    Parameters
    ----------
    call : Call
        Its body is the JSON of a `contract.EvaluateRequest`, or a `.npz` file with arrays of the same names.
    max_bytes : int
        What a `.npz` file may take when unpacked.

    Returns
    -------
    dict
        Arrays by name; null has become NaN.

    Raises
    ------
    UnsupportedType, MalformedInput, TooLarge, InvalidInput
        By what is wrong.
    """
    _check_type(call, (*JSON_TYPES, *FILE_TYPES), "")
    if call.body.startswith(ZIP_MAGIC):
        return _read_npz(call, max_bytes)
    if call.media_type in (contract.NPY, contract.NPZ, OCTETS):
        raise MalformedInput("expected a .npz file with z_spec and either images or pdfs, got other bytes")
    return _arrays(_message(call.body, contract.EvaluateRequest))


def query_options(call: Call, model: type[M]) -> M:
    """Read the query string.

    Parameters
    ----------
    call : Call
        The request.
    model : type of BaseModel
        Names and types of the options.

    Returns
    -------
    BaseModel
        An instance of `model`.

    Raises
    ------
    InvalidInput
        If there is another option, or a value of another type.
    """
    if unknown := sorted(set(call.query) - set(model.model_fields)):
        raise InvalidInput(f"there is no option ?{unknown[0]}; expected any of {', '.join(model.model_fields)}")
    return _validated(model, dict(call.query), strict=False)


def _check_type(call: Call, expected: tuple[str, ...], advice: str) -> None:
    if call.media_type not in expected:
        names = ", ".join(dict.fromkeys(name for name in expected if name not in ("", FORM)))
        raise UnsupportedType(f"cannot read {call.media_type}: expected {names}" + (f" ({advice})" if advice else ""))


def _read_file(call: Call, max_bytes: int) -> Arrays:
    body = call.body
    if body.startswith(ZIP_MAGIC):
        return _read_npz(call, max_bytes)
    if body.startswith(NPY_MAGIC):
        return {"images": read_array(io.BytesIO(body), len(body))}
    raise MalformedInput(f"expected a .npy or .npz file, got {len(body)} bytes that begin with {body[:6]!r}")


def _read_npz(call: Call, max_bytes: int) -> Arrays:
    def reserve(size: int) -> None:
        call.reservation.take_beside(size, "a .npz file that unpacks into")

    # Each entry of an archive's directory becomes an object of half a kB before anybody can count them.
    if call.body.count(ZIP_ENTRY) > MAX_MEMBERS:
        raise MalformedInput(f"not a readable .npz file: expected at most {MAX_MEMBERS} arrays, got more")
    return read_arrays(io.BytesIO(call.body), max_bytes, reserve)


def _message(body: bytes, model: type[M]) -> M:
    with aside.without_collector():
        return _checked_message(body, model)


def _checked_message(body: bytes, model: type[M]) -> M:
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
    return _validated(model, content, strict=True)


def _depth(content: Any) -> int:
    depth = 0
    while isinstance(content, list) and content:
        content, depth = content[0], depth + 1
    return depth


def _validated(model: type[M], content: Mapping[str, Any], *, strict: bool) -> M:
    try:
        return model.model_validate(content, strict=strict)
    except ValidationError as error:
        raise InvalidInput(readable(error)) from error


def _arrays(request: BaseModel) -> Arrays:
    """Return the fields that are given as arrays; those of numbers are float64, with NaN for null."""
    arrays: Arrays = {}
    for name in ("images", "pdfs", "z_spec", "ebv", "magnitudes"):
        if (values := getattr(request, name, None)) is not None:
            try:
                arrays[name] = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise InvalidImages(f"{name} do not form a regular array: {error}") from error
    if (names := getattr(request, "object_id", None)) is not None:
        arrays["object_id"] = np.array(names, dtype=object)  # as text, each would take the room of the longest
    return arrays
