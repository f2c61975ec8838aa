"""The messages of the Open Inference Protocol v2, both ends of them: to bytes and back, and nothing of what they mean.

A message is a JSON object; with the binary tensor data extension the bytes of tensors follow it, in the order of the
JSON, and a header of HTTP tells where the JSON ends (https://github.com/kserve/open-inference-protocol, and Triton's
docs/protocol/extension_binary_data.md). Both ends take any mixture of the two.
"""

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from photoz.errors import MalformedInput, TooLarge
from photoz.protocol import tensors
from photoz.protocol.tensors import Shape, Tensor

Content = dict[str, Any]

# The header of HTTP with the length of the JSON, where anything follows it.
HEADER_LENGTH = "inference-header-content-length"

# The first tensor begins at a multiple of this many bytes, by spaces after the JSON: numpy is slow where a number does
# not lie at a multiple of its size.
ALIGNMENT = 8

MAX_NAME = 256  # characters
MAX_DIMENSIONS = 8
MAX_LENGTH = 2**40


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request asks for.

    Parameters
    ----------
    name : str
        Its name.
    binary : bool
        Whether it is wanted as bytes after the JSON.
    """

    name: str
    binary: bool


@dataclass(frozen=True)
class Request:
    """What a request says.

    Parameters
    ----------
    inputs : dict
        Tensors by name.
    outputs : tuple of RequestedOutput, or None
        What is wanted, in this order; None for everything.
    binary : bool
        Whether "everything" is wanted as bytes.
    request_id : str, or None
        To be echoed.
    """

    inputs: dict[str, Tensor]
    outputs: tuple[RequestedOutput, ...] | None
    binary: bool
    request_id: str | None


@dataclass(frozen=True)
class Response:
    """What a response says.

    Parameters
    ----------
    outputs : dict
        Tensors by name.
    model_name, model_version : str
        Which model answers.
    request_id : str, or None
        That of the request.
    """

    outputs: dict[str, Tensor]
    model_name: str
    model_version: str
    request_id: str | None


@dataclass(frozen=True)
class Message:
    """A message on its way out.

    Parameters
    ----------
    parts : list of bytes-like
        The JSON and, after it, binary tensors; views of the arrays, not copies, where they had the right form.
    header_length : int, or None
        What belongs into the header `HEADER_LENGTH`; None when there is only JSON.
    """

    parts: list[bytes | memoryview]
    header_length: int | None

    @property
    def body(self) -> bytes:
        """All parts as one."""
        return b"".join(self.parts)


def encode_request(
    inputs: Iterable[Tensor],
    outputs: Iterable[str] | None = None,
    *,
    binary: bool = True,
    request_id: str | None = None,
) -> Message:
    """Write a request.

    Parameters
    ----------
    inputs : iterable of Tensor
        What the model takes; put the largest first, where it is aligned.
    outputs : iterable of str, optional
        Names of what is wanted; everything without.
    binary : bool
        Whether tensors go as bytes in both directions, or as JSON.
    request_id : str, optional
        To be echoed.

    Returns
    -------
    Message
        For `/v2/models/{name}/infer`.
    """
    content: Content = {} if request_id is None else {"id": request_id}
    if outputs is not None:
        content["outputs"] = [{"name": name} for name in outputs]
    return _message(content | {"parameters": {"binary_data_output": binary}}, "inputs", [(t, binary) for t in inputs])


def decode_request(
    body: bytes | memoryview,
    header_length: int | None = None,
    *,
    max_json: int | None = None,
    max_texts: int | None = None,
) -> Request:
    """Read a request.

    Parameters
    ----------
    body : bytes-like
        All of it; arrays are read-only views of it where they can be.
    header_length : int, optional
        From the header `HEADER_LENGTH`; without it, everything is JSON.
    max_json : int, optional
        Bytes that the JSON may have: each takes up to 40 while it is read, and a hundred times the work of another.
    max_texts : int, optional
        Elements that a tensor of text may have.

    Returns
    -------
    Request
        Well-formed; whether anybody can use it is for others to say.

    Raises
    ------
    MalformedInput
        If it breaks the protocol.
    TooLarge
        If it is over one of the limits.
    """
    length = len(body) if header_length is None else min(header_length, len(body))
    if max_json is not None and length > max_json:
        raise TooLarge(f"expected at most {max_json:,} bytes of JSON, got {length:,}: send tensors as bytes behind it")
    content, data = _split(body, header_length)
    parameters = _parameters(content, "the request")
    binary = _flag(parameters, "binary_data_output", False)
    inputs = _tensors(content, "inputs", data, max_texts)
    return Request(inputs, _requested_outputs(content, binary), binary, _text(content, "id"))


def encode_response(
    outputs: Iterable[tuple[Tensor, bool]],
    *,
    model_name: str,
    model_version: str,
    request_id: str | None = None,
) -> Message:
    """Write a response.

    Parameters
    ----------
    outputs : iterable of (Tensor, bool)
        What the model says, and whether it goes as bytes.
    model_name, model_version : str
        Which model answers.
    request_id : str, optional
        That of the request.

    Returns
    -------
    Message
        The answer.
    """
    content: Content = {"model_name": model_name, "model_version": model_version}
    if request_id is not None:
        content["id"] = request_id
    return _message(content, "outputs", outputs)


def decode_response(body: bytes | memoryview, header_length: int | None = None) -> Response:
    """Read a response.

    Parameters
    ----------
    body : bytes-like
        All of it; arrays are read-only views of it where they can be.
    header_length : int, optional
        From the header `HEADER_LENGTH`; without it, everything is JSON.

    Returns
    -------
    Response
        Well-formed.

    Raises
    ------
    MalformedInput
        If it breaks the protocol.
    """
    content, data = _split(body, header_length)
    model_name, model_version = _text(content, "model_name") or "", _text(content, "model_version") or ""
    return Response(_tensors(content, "outputs", data), model_name, model_version, _text(content, "id"))


def read_header_length(text: str | None) -> int | None:
    """Read the header `HEADER_LENGTH`; None where there is none.

    Raises
    ------
    MalformedInput
        If it is no number of bytes.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise MalformedInput(f"expected {HEADER_LENGTH} as a number of bytes, got {text[:40]!r}")
    return int(text)


def _message(content: Content, key: str, chosen: Iterable[tuple[Tensor, bool]]) -> Message:
    entries: list[Content] = []
    parts: list[bytes | memoryview] = [b""]
    for tensor, binary in chosen:
        entry: Content = {"name": tensor.name, "shape": tensor.array.shape, "datatype": tensor.datatype}
        if binary:
            data = tensors.to_bytes(tensor)
            entry["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            entry["data"] = tensors.to_list(tensor)
        entries.append(entry)
    header = to_json(content | {key: entries}, inf_nan_mode="null")
    if len(parts) == 1:
        return Message([header], None)
    parts[0] = header + b" " * (-len(header) % ALIGNMENT)
    return Message(parts, len(parts[0]))


def _split(body: bytes | memoryview, header_length: int | None) -> tuple[Content, memoryview]:
    """Part a message into its JSON and the bytes behind."""
    if header_length is None:
        header_length = len(body)
    elif not 0 < header_length <= len(body):
        raise MalformedInput(
            f"expected {HEADER_LENGTH} between 1 and {len(body)}, the length of the body, got {header_length}"
        )
    view = memoryview(body)
    try:
        content = from_json(bytes(view[:header_length]))
    except ValueError as error:
        raise MalformedInput(f"the first {header_length} bytes of the body are not JSON: {error}") from error
    if not isinstance(content, dict):
        raise MalformedInput(f"expected a JSON object, got a {type(content).__name__}")
    return content, view[header_length:]


def _tensors(content: Content, key: str, data: memoryview, max_texts: int | None = None) -> dict[str, Tensor]:
    """Read all tensors; the bytes behind the JSON must be theirs to the last one."""
    found: dict[str, Tensor] = {}
    start = 0
    for entry in _entries(content, key):
        name, datatype, shape = _description(entry, found)
        if datatype == tensors.BYTES and max_texts is not None and math.prod(shape) > max_texts:
            raise TooLarge(f"{name}: expected at most {max_texts:,} texts, got shape {shape}")
        size = _binary_data_size(entry, name)
        if size is None:
            found[name] = tensors.from_list(entry["data"], name, datatype, shape)
        elif start + size > len(data):
            raise MalformedInput(f"{name}: expected {size:,} bytes behind the JSON, got {len(data) - start:,}")
        else:
            found[name] = tensors.from_bytes(data[start : start + size], name, datatype, shape)
            start += size
    if start != len(data):
        raise MalformedInput(f"expected {start:,} bytes behind the JSON, as binary_data_size says, got {len(data):,}")
    return found


def _entries(content: Content, key: str) -> list[Content]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MalformedInput(f"expected {key} as a list of JSON objects")
    return entries


def _description(entry: Content, seen: Mapping[str, Any]) -> tuple[str, str, Shape]:
    name, datatype, shape = _name(entry, seen), entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or (datatype != tensors.BYTES and datatype not in tensors.NUMBERS):
        expected = ", ".join((*tensors.NUMBERS, tensors.BYTES))
        raise MalformedInput(f"{name}: expected a datatype of {expected}, got {_shortened(datatype)}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_length, shape)):
        raise MalformedInput(f"{name}: expected shape as a list of lengths, got {_shortened(shape)}")
    return name, datatype, tuple(shape)


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_LENGTH


def _name(entry: Content, seen: Mapping[str, Any]) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise MalformedInput(f"expected each tensor with a name, got {_shortened(name)}")
    if name in seen:
        raise MalformedInput(f"{name} stands there twice; expected each tensor once")
    return name


def _shortened(value: object) -> str:
    text = reprlib.repr(value)  # which stops after a few elements: a whole request may stand where a name should
    return text if len(text) <= 80 else text[:77] + "..."


def _binary_data_size(entry: Content, name: str) -> int | None:
    size = _parameters(entry, name).get("binary_data_size")
    if size is None and "data" not in entry:
        raise MalformedInput(f"{name}: expected data in the JSON, or binary_data_size in parameters and bytes behind")
    if size is not None and "data" in entry:
        raise MalformedInput(f"{name}: expected either data or binary_data_size, got both")
    if size is not None and (type(size) is not int or size < 0):
        raise MalformedInput(f"{name}: expected binary_data_size as a number of bytes, got {_shortened(size)}")
    return size


def _requested_outputs(content: Content, binary: bool) -> tuple[RequestedOutput, ...] | None:
    if content.get("outputs") is None:
        return None
    outputs: dict[str, RequestedOutput] = {}
    for entry in _entries(content, "outputs"):
        name, parameters = _name(entry, outputs), _parameters(entry, "an output")
        if unknown := {"classification", "shared_memory_region"} & parameters.keys():
            raise MalformedInput(f"{name}: {unknown.pop()} is not supported; expected binary_data or nothing")
        outputs[name] = RequestedOutput(name, _flag(parameters, "binary_data", binary))
    return tuple(outputs.values()) or None


def _parameters(content: Content, whose: str) -> Content:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise MalformedInput(f"expected parameters of {whose} as a JSON object, got a {type(parameters).__name__}")
    return parameters


def _flag(parameters: Content, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedInput(f"expected {name} as true or false, got {_shortened(value)}")
    return value


def _text(content: Content, name: str) -> str | None:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedInput(f"expected {name} as text, got a {type(value).__name__}")
    return value
