"""What requests say, and the PDFs in what comes back, for each kind of server.

`v2` is the Open Inference Protocol with binary tensors, which the service and its prototype speak; it asks for the PDFs
alone, since the engine and the peers give no more, and `v2-full` for estimates and flags as well. `raw` is for peers
that let an application read the body as it is: the pixels, then one reddening per cutout, both float32; they answer
with the PDFs alone. `grpc` is the protocol over gRPC as MLServer takes it fastest: each cutout is one element of type
BYTES, its pixels and then its reddening, and each answer is a PDF.
"""

import json
import re
import selectors
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from benchmarks.connection import BadReply, Connection, HttpConnection
from benchmarks.grpc_connection import GrpcConnection

FloatArray = npt.NDArray[np.float32]
Pdfs = npt.NDArray[np.floating]

DTYPES = {"FP32": "<f4", "FP64": "<f8"}

_JSON_LENGTH = re.compile(rb"\r\ninference-header-content-length: *(\d+)", re.IGNORECASE)


class Form(ABC):
    """How a kind of server wants its requests, and how it answers."""

    @abstractmethod
    def connect(
        self, port: int, path: str, selector: selectors.BaseSelector, images: FloatArray, ebv: FloatArray
    ) -> Connection:
        """Open a connection that will ask for the PDFs of n cutouts."""

    @abstractmethod
    def pdfs(self, head: bytes, body: bytes, n: int) -> Pdfs:
        """Read the PDFs in a reply, shape (n, n_bins)."""


class OpenInference(Form):
    """The Open Inference Protocol with binary tensors.

    Parameters
    ----------
    outputs : str
        That are asked for; the PDFs among them.
    """

    def __init__(self, *outputs: str) -> None:
        self._outputs = outputs

    def connect(
        self, port: int, path: str, selector: selectors.BaseSelector, images: FloatArray, ebv: FloatArray
    ) -> Connection:
        """See `Form.connect`."""
        tensors = {"images": images, "ebv": ebv}
        header = json.dumps(
            {
                "inputs": [_described(name, values) for name, values in tensors.items()],
                "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in self._outputs],
            }
        ).encode()
        body = header + b"".join(values.tobytes() for values in tensors.values())
        return HttpConnection(port, selector, _post(path, body, f"Inference-Header-Content-Length: {len(header)}"))

    def pdfs(self, head: bytes, body: bytes, n: int) -> Pdfs:
        """See `Form.pdfs`."""
        found = _JSON_LENGTH.search(head)
        if found is None:
            raise BadReply(f"expected binary tensors, got {head.decode(errors='replace')!r}")
        start = int(found[1])
        for output in json.loads(body[:start])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            if output["name"] == "pdf":
                return np.frombuffer(body[start : start + size], DTYPES[output["datatype"]]).reshape(output["shape"])
            start += size
        raise BadReply("expected an output named pdf, got none")


class Raw(Form):
    """Plain bytes in both directions."""

    def connect(
        self, port: int, path: str, selector: selectors.BaseSelector, images: FloatArray, ebv: FloatArray
    ) -> Connection:
        """See `Form.connect`."""
        return HttpConnection(port, selector, _post(path, images.tobytes() + ebv.tobytes()))

    def pdfs(self, head: bytes, body: bytes, n: int) -> Pdfs:
        """See `Form.pdfs`."""
        return np.frombuffer(body, "<f4").reshape(n, -1)


class Grpc(Form):
    """ModelInferRequest and ModelInferResponse of the protocol, with raw contents; the path is the model's name."""

    def connect(
        self, port: int, path: str, selector: selectors.BaseSelector, images: FloatArray, ebv: FloatArray
    ) -> Connection:
        """See `Form.connect`."""
        cutouts = [pixels.tobytes() + reddening.tobytes() for pixels, reddening in zip(images, ebv, strict=True)]
        raw = b"".join(len(cutout).to_bytes(4, "little") + cutout for cutout in cutouts)
        shape = _varint(len(cutouts)) + _varint(1)
        tensor = _field(1, b"cutouts") + _field(2, b"BYTES") + _field(3, shape)
        message = _field(1, path.encode()) + _field(5, tensor) + _field(7, raw)
        return GrpcConnection(port, selector, "/inference.GRPCInferenceService/ModelInfer", message)

    def pdfs(self, head: bytes, body: bytes, n: int) -> Pdfs:
        """See `Form.pdfs`."""
        raw = next(payload for number, payload in _fields(body) if number == 6)
        size = len(raw) // n  # 4 bytes of length, then a PDF
        return np.frombuffer(raw, np.uint8).reshape(n, size)[:, 4:].copy().view("<f4")


FORMS: dict[str, Form] = {
    "v2": OpenInference("pdf"),
    "v2-full": OpenInference("pdf", "z_mean", "flags"),
    "raw": Raw(),
    "grpc": Grpc(),
}


def _described(name: str, values: FloatArray) -> dict[str, object]:
    size = {"binary_data_size": values.nbytes}
    return {"name": name, "shape": list(values.shape), "datatype": "FP32", "parameters": size}


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/octet-stream", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


# Protobuf: fields of kind 2 (bytes, text, messages, packed numbers) are all that is needed.


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    fields, at = [], 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 != 2:
            raise BadReply(f"expected a field of bytes, got kind {key & 7}")
        size, at = _read_varint(message, at)
        fields.append((key >> 3, message[at : at + size]))
        at += size
    return fields


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        digit = message[at]
        value |= (digit & 127) << shift
        at, shift = at + 1, shift + 7
        if digit < 128:
            return value, at
