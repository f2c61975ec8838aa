"""Requests for PDFs, and the PDFs in the answers, for each kind of server.

`v2` is the Open Inference Protocol with binary tensors, for the service and its prototype; it asks for the PDFs alone,
since the engine and the peers give no more, and `v2-full` for estimates and flags too. `raw` is for peers whose
applications read bodies themselves: the pixels, then one reddening per cutout, all float32; the answer is the PDFs.
`grpc` is the protocol over gRPC as MLServer takes it fastest: each cutout is one element of type BYTES, its pixels and
then its reddening, and each answer is a PDF.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.harness.async_client import GrpcConnection, HttpConnection
from benchmarks.harness.cutouts import FloatArray, cutouts
from benchmarks.harness.http_client import Lost, NotHttp, Refused, Reply, request
from photoz.protocol import open_inference
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor

Pdfs = npt.NDArray[np.floating]

BINARY = "application/octet-stream"


class BadReply(Exception):
    """A server answered otherwise than it should, or not at all."""


@dataclass(frozen=True)
class Form:
    """How a kind of server takes its requests, and how it answers.

    `encode` writes the request from path, images and ebv, `decode` reads the PDFs of n cutouts, (n, n_bins).
    """

    encode: Callable[[str, FloatArray, FloatArray], bytes]
    decode: Callable[[Reply, int], Pdfs]
    connect: Callable[[int], Awaitable[HttpConnection | GrpcConnection]] = HttpConnection.connect

    def pdfs(self, reply: Reply, n: int) -> Pdfs:
        """Read the PDFs in an answer; `BadReply` if they are not there."""
        if reply.status != 200:
            raise BadReply(f"expected status 200, got {reply.status}: {reply.body[:300]!r}")
        try:
            return self.decode(reply, n)
        except (LookupError, ValueError) as error:
            raise BadReply(f"cannot read the answer: {error!r}") from error

    async def ask(self, port: int, content: bytes) -> Reply:
        """Send one request on a connection of its own."""
        with closing(await self.connect(port)) as connection:
            return await connection.ask(content)

    def ask_once(self, port: int, path: str, n: int) -> Pdfs:
        """Ask a server for the PDFs of n cutouts; `BadReply` if it does not give them."""
        try:
            return self.pdfs(asyncio.run(self.ask(port, self.encode(path, *cutouts(n)))), n)
        except (Lost, NotHttp, Refused) as error:
            raise BadReply(str(error)) from error


def infer_body(images: FloatArray, ebv: FloatArray, *outputs: str) -> tuple[bytes, int]:
    """Write a request of the Open Inference Protocol; return it, and the length of its JSON."""
    message = open_inference.encode_request([Tensor.of("images", images), Tensor.of("ebv", ebv)], outputs)
    return bytes(message.body), message.header_length or 0


def infer_request(path: str, images: FloatArray, ebv: FloatArray, *outputs: str) -> bytes:
    """Write the whole HTTP request around `infer_body`."""
    body, length = infer_body(images, ebv, *outputs)
    return request("POST", path, body, f"{HEADER_LENGTH}: {length}", content_type=BINARY)


def read_tensors(reply: Reply) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays in an answer of the Open Inference Protocol; `MalformedInput` if it is not one."""
    length = open_inference.read_header_length(reply.headers.get(HEADER_LENGTH))
    return {name: tensor.array for name, tensor in open_inference.decode_response(reply.body, length).outputs.items()}


def _open_inference(*outputs: str) -> Form:
    return Form(
        lambda path, images, ebv: infer_request(path, images, ebv, *outputs),
        lambda reply, n: read_tensors(reply)["pdf"],
    )


def _raw_request(path: str, images: FloatArray, ebv: FloatArray) -> bytes:
    return request("POST", path, images.tobytes() + ebv.tobytes(), content_type=BINARY)


def _grpc_message(path: str, images: FloatArray, ebv: FloatArray) -> bytes:
    from tritonclient.grpc import service_pb2  # with grpc, which no other form needs

    elements = [pixels.tobytes() + reddening.tobytes() for pixels, reddening in zip(images, ebv, strict=True)]
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="cutouts", datatype="BYTES", shape=[len(elements), 1])
    raw = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    message = service_pb2.ModelInferRequest(model_name=path, inputs=[tensor], raw_input_contents=[raw])
    return bytes(message.SerializeToString())


def _grpc_pdfs(reply: Reply, n: int) -> Pdfs:
    from tritonclient.grpc import service_pb2

    raw = service_pb2.ModelInferResponse.FromString(reply.body).raw_output_contents[0]
    size = len(raw) // n  # 4 bytes of length, then a PDF
    return np.frombuffer(raw, np.uint8).reshape(n, size)[:, 4:].copy().view("<f4")


FORMS = {
    "v2": _open_inference("pdf"),
    "v2-full": _open_inference("pdf", "z_mean", "flags"),
    "ready": Form(lambda path, images, ebv: request("GET", "/readyz"), lambda reply, n: np.empty((n, 0))),
    "raw": Form(_raw_request, lambda reply, n: np.frombuffer(reply.body, "<f4").reshape(n, -1)),
    "grpc": Form(_grpc_message, _grpc_pdfs, GrpcConnection.connect),  # the path is the name of the model
}
