"""Bodies of the Open Inference Protocol: which tensors a model takes and gives, decode beside encode."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from photoz.errors import InvalidInput, TooLarge
from photoz.estimates import COLUMNS
from photoz.inference.predictor import Batch
from photoz.model.card import Card
from photoz.protocol import contract
from photoz.protocol import open_inference as protocol
from photoz.protocol.open_inference import RequestedOutput
from photoz.protocol.tensors import BYTES, NUMBERS, Tensor
from service.formats.compression import COMPRESSORS, chosen_encoding, decompress
from service.formats.negotiation import OCTETS, TEXT_BYTES
from service.formats.npz import Arrays
from service.middleware.json_memory import MAX_JSON_BYTES, estimate_json_memory, refuse_large_json
from service.offload import SMALL, without_collector
from service.request import Request
from service.validation import as_batch, converted_bytes, refuse_long_names, refuse_nul

Columns = Mapping[str, npt.NDArray[Any]]

NAMES_OR_INTEGERS = (BYTES, "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")

# Datatypes of each input, that of the metadata first.
INPUTS: Mapping[str, Sequence[str]] = {
    "images": ("FP32", *(name for name in NUMBERS if name != "FP32")),
    "ebv": ("FP32", *(name for name in NUMBERS if name != "FP32")),
    "object_id": NAMES_OR_INTEGERS,
}

# The network computes PDFs in float32, and they are most of the answer. The other outputs are few, and have the same
# digits as at the other endpoints.
OUTPUTS: Mapping[str, str] = {name: "FP64" for name in COLUMNS} | {
    "object_id": BYTES,
    "flags": "INT32",
    "pdf": "FP32",
}

# Decoding a byte of JSON takes at least as long as so many binary ones.
JSON_WORK = 20


@dataclass(frozen=True)
class InferRequest:
    """A request that has passed validation.

    Parameters
    ----------
    batch : Batch
        n galaxies.
    outputs : tuple of RequestedOutput
        What it asks for.
    id : str, or None
        To be echoed.
    """

    batch: Batch
    outputs: tuple[RequestedOutput, ...]
    id: str | None

    @property
    def columns(self) -> frozenset[str]:
        """Names of the outputs that have to be computed."""
        return frozenset(output.name for output in self.outputs) - {"object_id"}


def decoding_work(request: Request) -> int:
    """Return how long decoding takes, in binary bytes; that of a compressed body cannot be known before."""
    if request.content_encoding:
        return SMALL + 1
    header_length = _header_length(request)
    return request.received_bytes + JSON_WORK * (request.received_bytes if header_length is None else header_length)


def decode(request: Request, card: Card, max_rows: int, max_bytes: int) -> InferRequest:
    """Decode and validate a request, which decompresses into at most `max_bytes`.

    Raises `UnsupportedType`, `TooLarge`, `MalformedInput` or `InvalidInput`.
    """
    header_length = _header_length(request)
    body = _decompressed(request, header_length, max_bytes) if request.content_encoding else _aligned(request)
    with without_collector():
        message = protocol.decode_request(body, header_length, max_json=MAX_JSON_BYTES, max_texts=max_rows)
    outputs = _requested_outputs(message)
    arrays = _as_arrays(message, max_rows)
    request.reservation.reserve_work(converted_bytes(arrays), "tensors that are converted to")
    inference = InferRequest(as_batch(arrays, card, max_rows), outputs, message.request_id)
    request.reservation.reserve_work(_answer_memory(inference, card), "an answer of")
    return inference


def _answer_memory(inference: InferRequest, card: Card) -> int:
    """Return the bytes that the PDFs of an answer take while it is encoded."""
    each = sum(8 if output.binary else TEXT_BYTES for output in inference.outputs if output.name == "pdf")
    return len(inference.batch) * card.grid.n_bins * each


def _header_length(request: Request) -> int | None:
    found = request.headers.get(protocol.HEADER_LENGTH.encode())
    return protocol.read_header_length(None if found is None else found.decode("latin-1"))


def _aligned(request: Request) -> memoryview:
    """Join the chunks so that numpy and the engine can use the tensor behind the JSON without a copy.

    numpy asks the system for large pages, and Python's bytes do not: many small ones take longer to get.
    """
    gap = -(_header_length(request) or 0) % protocol.ALIGNMENT
    chunks, request.chunks = [bytes(gap), *request.chunks], []
    return memoryview(np.concatenate([np.frombuffer(chunk, np.uint8) for chunk in chunks]))[gap:]


def _decompressed(request: Request, header_length: int | None, limit: int) -> memoryview:
    def grow(size: int) -> None:
        request.reservation.grow_to(size, "a body that unpacks into")

    unpacked = decompress(request.body, request.content_encoding, limit, grow)
    header = unpacked[:header_length]
    refuse_large_json(len(header))
    request.reservation.reserve(estimate_json_memory(bytes(header)), "JSON that decodes into")
    return unpacked


def _requested_outputs(message: protocol.Request) -> tuple[RequestedOutput, ...]:
    if message.outputs is None:
        return tuple(RequestedOutput(name, message.binary) for name in OUTPUTS)
    for output in message.outputs:
        if output.name not in OUTPUTS:
            raise InvalidInput(f"there is no output {output.name}; expected any of {', '.join(OUTPUTS)}")
    return message.outputs


def _as_arrays(message: protocol.Request, max_rows: int) -> Arrays:
    inputs = message.inputs
    for name, tensor in inputs.items():
        if name not in INPUTS:
            raise InvalidInput(f"there is no input {name}; expected images and, optionally, ebv and object_id")
        if tensor.datatype not in INPUTS[name]:
            raise InvalidInput(f"expected {name} as {' or '.join(INPUTS[name])}, got {tensor.datatype}")
    if "images" not in inputs:
        raise InvalidInput(f"expected an input images, got {', '.join(inputs) or 'none'}")
    return {
        name: _names(tensor, max_rows) if tensor.datatype == BYTES else tensor.array for name, tensor in inputs.items()
    }


def _names(tensor: Tensor, max_rows: int) -> npt.NDArray[np.str_]:
    names = tensor.array
    if names.size > max_rows:
        raise TooLarge(f"expected at most {max_rows:,} names in one request, got {names.size:,}")
    refuse_long_names(max(map(len, names.flat), default=0))  # before each takes the memory of the longest
    refuse_nul(names)
    return names.astype(np.str_)


def encoding_work(inference: InferRequest, card: Card) -> int:
    """Return how long encoding takes, in binary bytes."""
    as_json = any(not output.binary for output in inference.outputs)
    return len(inference.batch) * card.grid.n_bins * (4 * JSON_WORK if as_json else 4)


def encode(inference: InferRequest, columns: Columns, card: Card, accept_encoding: str) -> Response:
    """Encode the outputs that a request asks for, out of the columns of its n galaxies, (n, ...) each."""
    message = protocol.encode_response(
        _tensors(inference, columns), model_name=card.name, model_version=card.version, request_id=inference.id
    )
    content, headers, media_type = message.body, {}, contract.JSON
    if message.header_length is not None:
        headers[protocol.HEADER_LENGTH] = str(message.header_length)
        media_type = OCTETS
    if encoding := chosen_encoding(accept_encoding):
        headers["content-encoding"] = encoding
        content = COMPRESSORS[encoding](content)
    return Response(content, media_type=media_type, headers=headers)


def _tensors(inference: InferRequest, columns: Columns) -> Iterator[tuple[Tensor, bool]]:
    for output in inference.outputs:
        values = inference.batch.names if output.name == "object_id" else columns[output.name]
        yield Tensor(output.name, OUTPUTS[output.name], values), output.binary


def metadata(card: Card) -> dict[str, Any]:
    """Return the model metadata of the protocol; -1 is the number of galaxies."""
    axes = {"images": [-1, *card.image.shape], "pdf": [-1, card.grid.n_bins]}

    def described(datatypes: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": datatype, "shape": axes.get(name, [-1])} for name, datatype in datatypes.items()
        ]

    return {
        "name": card.name,
        "versions": [card.version],
        "platform": "photoz_bundle",
        "inputs": described({name: datatypes[0] for name, datatypes in INPUTS.items()}),
        "outputs": described(OUTPUTS),
    }
