"""Requests and responses of the Open Inference Protocol v2, to bytes and back.

A message is a JSON object. With the binary tensor data extension the bytes of tensors follow it, in the order of the
JSON, and an HTTP header gives the length of the JSON (https://github.com/kserve/open-inference-protocol, and Triton's
docs/protocol/extension_binary_data.md). A message may mix tensors in JSON and as bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

from photoz.errors import MalformedInput, TooLarge
from photoz.protocol import messages, tensors
from photoz.protocol.messages import OutputJson, TensorJson
from photoz.protocol.tensors import BYTES, Tensor

Content = dict[str, Any]
T = TypeVar("T")

# The HTTP header with the length of the JSON, if bytes follow it.
HEADER_LENGTH = "inference-header-content-length"

# Spaces after the JSON make the first tensor begin at a multiple of this many bytes: numpy is slow with unaligned
# numbers.
ALIGNMENT = 8


class RequestedOutput(NamedTuple):
    """An output that a request asks for, and whether it is returned as bytes after the JSON."""

    name: str
    binary: bool


class DecodedRequest(NamedTuple):
    """A decoded request."""

    inputs: dict[str, Tensor]
    outputs: tuple[RequestedOutput, ...] | None  # None for all
    binary: bool  # whether all outputs are returned as bytes, if `outputs` is None
    request_id: str | None  # repeated in the response


class DecodedResponse(NamedTuple):
    """A decoded response, with its tensors by name."""

    outputs: dict[str, Tensor]
    model_name: str
    model_version: str
    request_id: str | None
    parameters: dict[str, Any]


class EncodedMessage(NamedTuple):
    """An encoded message."""

    parts: list[bytes | memoryview]  # the JSON, then binary tensors: views of the arrays if possible, not copies
    header_length: int | None  # value of the header `HEADER_LENGTH`; None if there is only JSON

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
) -> EncodedMessage:
    """Encode a request for `/v2/models/{name}/infer`, with the names of its outputs, by default all.

    Put the largest tensor first: the first is aligned. `binary` chooses between bytes and JSON in both directions. The
    response repeats `request_id`.
    """
    content: Content = {} if request_id is None else {"id": request_id}
    if outputs is not None:
        content["outputs"] = [{"name": name} for name in outputs]
    return _message(content | {"parameters": {"binary_data_output": binary}}, "inputs", [(t, binary) for t in inputs])


def decode_request(
    body: bytes | memoryview, header_length: int | None = None, *, max_texts: int | None = None
) -> DecodedRequest:
    """Decode a request, whose first `header_length` bytes are JSON; all of them without this value of `HEADER_LENGTH`.

    Arrays are read-only views of the body if possible. Decoding a byte of JSON takes up to 40 bytes of memory, and 100
    times as long as a byte of a binary tensor. Raises `MalformedInput` if the body breaks the protocol, and `TooLarge`
    for more elements in a tensor of text than `max_texts`.
    """
    content, data = _split(messages.REQUEST, body, header_length)
    binary = (content.get("parameters") or {}).get("binary_data_output", False)
    inputs = _decode_tensors(content["inputs"], data, max_texts)
    return DecodedRequest(inputs, _requested_outputs(content.get("outputs") or (), binary), binary, content.get("id"))


def encode_response(
    outputs: Iterable[tuple[Tensor, bool]],
    *,
    model_name: str,
    model_version: str,
    request_id: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> EncodedMessage:
    """Encode a response; each tensor comes with whether it is encoded as bytes. `parameters` are any, as JSON."""
    content: Content = {"model_name": model_name, "model_version": model_version}
    if parameters:
        content["parameters"] = parameters
    if request_id is not None:
        content["id"] = request_id
    return _message(content, "outputs", outputs)


def decode_response(body: bytes | memoryview, header_length: int | None = None) -> DecodedResponse:
    """Decode a response; otherwise as `decode_request`."""
    content, data = _split(messages.RESPONSE, body, header_length)
    outputs = _decode_tensors(content["outputs"], data)
    return DecodedResponse(
        outputs,
        content.get("model_name") or "",
        content.get("model_version") or "",
        content.get("id"),
        content.get("parameters") or {},
    )


def read_header_length(text: str | None) -> int | None:
    """Parse the header `HEADER_LENGTH`, None if it is absent; raises `MalformedInput` if it is not a number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise MalformedInput(f"expected {HEADER_LENGTH} as a number of bytes, got {text[:40]!r}")
    return int(text)


def _message(content: Content, key: str, chosen: Iterable[tuple[Tensor, bool]]) -> EncodedMessage:
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
        return EncodedMessage([header], None)
    parts[0] = header + b" " * (-len(header) % ALIGNMENT)
    return EncodedMessage(parts, len(parts[0]))


def _split(message: TypeAdapter[T], body: bytes | memoryview, header_length: int | None) -> tuple[T, memoryview]:
    """Split a message into its JSON, validated, and the bytes after it."""
    if header_length is None:
        header_length = len(body)
    elif not 0 < header_length <= len(body):
        raise MalformedInput(
            f"expected {HEADER_LENGTH} between 1 and {len(body)}, the length of the body, got {header_length}"
        )
    view = memoryview(body)
    return messages.parse(message, bytes(view[:header_length])), view[header_length:]


def _decode_tensors(entries: Sequence[TensorJson], data: memoryview, max_texts: int | None = None) -> dict[str, Tensor]:
    """Decode all tensors; the binary ones must use up the bytes after the JSON."""
    decoded: dict[str, Tensor] = {}
    start = 0
    for entry in entries:
        name, datatype, shape = entry["name"], entry["datatype"], tuple(entry["shape"])
        _refuse_repeated(name, decoded)
        if datatype == BYTES and max_texts is not None and math.prod(shape) > max_texts:
            raise TooLarge(f"{name}: expected at most {max_texts:,} texts, got shape {shape}")
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if (size is None) != ("data" in entry):
            raise MalformedInput(
                f"{name}: expected either data, or binary_data_size in parameters and bytes after the JSON"
            )
        if size is None:
            decoded[name] = tensors.from_list(entry["data"], name, datatype, shape)
        elif start + size > len(data):
            raise MalformedInput(f"{name}: expected {size:,} bytes after the JSON, got {len(data) - start:,}")
        else:
            decoded[name] = tensors.from_bytes(data[start : start + size], name, datatype, shape)
            start += size
    if start != len(data):
        raise MalformedInput(f"expected {start:,} bytes after the JSON, as binary_data_size says, got {len(data):,}")
    return decoded


def _refuse_repeated(name: str, seen: Iterable[str]) -> None:
    if name in seen:
        raise MalformedInput(f"{name} is given twice; expected each tensor once")


def _requested_outputs(entries: Sequence[OutputJson], binary: bool) -> tuple[RequestedOutput, ...] | None:
    outputs: dict[str, RequestedOutput] = {}
    for entry in entries:
        name, parameters = entry["name"], entry.get("parameters") or {}
        _refuse_repeated(name, outputs)
        if unsupported := parameters.keys() - {"binary_data"}:
            raise MalformedInput(f"{name}: {min(unsupported)} is not supported; expected binary_data or nothing")
        outputs[name] = RequestedOutput(name, parameters.get("binary_data", binary))
    return tuple(outputs.values()) or None
