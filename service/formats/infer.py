"""Bodies of the Open Inference Protocol: which tensors a model takes and gives, decode beside encode."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from photoz.errors import InvalidInput
from photoz.estimates import COLUMNS, Names
from photoz.io import formats
from photoz.model.card import Card
from photoz.protocol import open_inference as protocol
from photoz.protocol.open_inference import RequestedOutput
from photoz.protocol.tensors import BYTES, NUMBERS, Tensor
from photoz.validation import Arrays
from service.compression import COMPRESSORS
from service.formats.estimates import TEXT_BYTES
from service.formats.negotiation import OCTETS
from service.steps import without_collector

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
    """A decoded request."""

    arrays: Arrays  # inputs by name
    outputs: tuple[RequestedOutput, ...]  # what it asks for
    id: str | None  # repeated in the response

    @property
    def columns(self) -> frozenset[str]:
        """Names of the outputs that have to be computed."""
        return frozenset(output.name for output in self.outputs) - {"object_id"}

    def pdf_bytes(self, card: Card) -> int:
        """Return the bytes that the PDFs of the response take while it is encoded."""
        each = sum(8 if output.binary else TEXT_BYTES for output in self.outputs if output.name == "pdf")
        images = self.arrays["images"]
        return (len(images) if images.ndim else 1) * card.grid.n_bins * each


@without_collector()
def decode(chunks: Sequence[bytes | bytearray], header_length: int | None, max_rows: int) -> InferRequest:
    """Decode a request of at most `max_rows` names; raises `TooLarge`, `MalformedInput` or `InvalidInput`."""
    body = _aligned(chunks, header_length or 0)
    message = protocol.decode_request(body, header_length, max_texts=max_rows)
    return InferRequest(_as_arrays(message), _requested_outputs(message), message.request_id)


def _aligned(chunks: Sequence[bytes | bytearray], header_length: int) -> memoryview:
    """Join the chunks so that numpy and the engine can use the tensor behind the JSON without a copy.

    numpy asks the system for large pages, and Python's bytes do not: many small ones take longer to get.
    """
    gap = -header_length % protocol.ALIGNMENT
    joined = np.concatenate([np.frombuffer(chunk, np.uint8) for chunk in (bytes(gap), *chunks)])
    return joined.data[gap:]


def _requested_outputs(message: protocol.DecodedRequest) -> tuple[RequestedOutput, ...]:
    if message.outputs is None:
        return tuple(RequestedOutput(name, message.binary) for name in OUTPUTS)
    for output in message.outputs:
        if output.name not in OUTPUTS:
            raise InvalidInput(f"there is no output {output.name}; expected any of {', '.join(OUTPUTS)}")
    return message.outputs


def _as_arrays(message: protocol.DecodedRequest) -> Arrays:
    inputs = message.inputs
    for name, tensor in inputs.items():
        if name not in INPUTS:
            raise InvalidInput(f"there is no input {name}; expected images and, optionally, ebv and object_id")
        if tensor.datatype not in INPUTS[name]:
            raise InvalidInput(f"expected {name} as {' or '.join(INPUTS[name])}, got {tensor.datatype}")
    if "images" not in inputs:
        raise InvalidInput(f"expected an input images, got {', '.join(inputs) or 'none'}")
    return {name: tensor.array for name, tensor in inputs.items()}


def encoding_work(outputs: Sequence[RequestedOutput], n: int, card: Card) -> int:
    """Return how long encoding the outputs of n galaxies takes, in binary bytes."""
    as_json = any(not output.binary for output in outputs)
    return n * card.grid.n_bins * (4 * JSON_WORK if as_json else 4)


def encode(request: InferRequest, names: Names, columns: Columns, card: Card, accept_encoding: str) -> Response:
    """Encode the outputs that a request asks for, from the names (n,) and columns (n, ...) of its galaxies."""
    tensors = [
        (Tensor(name, OUTPUTS[name], names.astype(np.str_) if name == "object_id" else columns[name]), binary)
        for name, binary in request.outputs
    ]
    message = protocol.encode_response(
        tensors,
        model_name=card.name,
        model_version=card.version,
        request_id=request.id,
        parameters=asdict(card.grid) if "pdf" in request.columns else None,
    )
    content, headers, media_type = message.body, {}, formats.JSON.media_type
    if message.header_length is not None:
        headers[protocol.HEADER_LENGTH] = str(message.header_length)
        media_type = OCTETS
    encoding = accept_encoding.strip().lower()
    if encoding in COMPRESSORS:
        headers["content-encoding"] = encoding
        content = COMPRESSORS[encoding](content)
    return Response(content, media_type=media_type, headers=headers)


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
