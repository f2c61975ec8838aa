"""Requests for PDFs, and the PDFs in the answers, for each kind of server.

`v2` is the Open Inference Protocol with binary tensors, for the service; it asks for the PDFs alone, since the peers
give no more, and `v2-full` for estimates and flags too. `raw` is for peers whose applications read bodies themselves:
the pixels, then one reddening per cutout, all float32; the answer is the PDFs. `grpc` is the protocol over gRPC as
MLServer takes it fastest: each cutout is one element of type BYTES, its pixels and then its reddening, and each answer
is a PDF.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.harness.cutouts import FloatArray, cutouts
from benchmarks.harness.http_client import Connection, Lost, NotHttp, Refused, Reply, request
from photoz.protocol import open_inference
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor

Pdfs = npt.NDArray[np.floating]

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
MODEL = "photoz"  # of the service and of MLServer


class BadReply(Exception):
    """A server answered otherwise than it should, or not at all."""


class Body(NamedTuple):
    """The body of a request, and the headers that belong to it."""

    content: bytes
    headers: tuple[str, ...] = ()
    is_grpc: bool = False


@dataclass(frozen=True)
class Form:
    """How a kind of server takes its requests: `encode` images and ebv, `decode` the PDFs of n cutouts, (n, n_bins)."""

    encode: Callable[[FloatArray, FloatArray], Body]
    decode: Callable[[Reply, int], Pdfs]

    def ask(self, port: int, path: str, n: int) -> Pdfs:
        """Ask a server for the PDFs of n cutouts; `BadReply` if it does not give them."""
        body = self.encode(*cutouts(n))
        try:
            reply = _ask_grpc(port, body) if body.is_grpc else _ask_http(port, path, body)
        except (Lost, NotHttp, Refused) as error:
            raise BadReply(str(error)) from error
        if reply.status != 200:
            raise BadReply(f"expected status 200, got {reply.status}: {reply.body[:300]!r}")
        try:
            return self.decode(reply, n)
        except (LookupError, ValueError) as error:
            raise BadReply(f"cannot read the answer: {error!r}") from error


def _ask_http(port: int, path: str, body: Body) -> Reply:
    with closing(Connection(port)) as connection:
        return connection.ask(request("POST", path, body.content, *body.headers))


def _ask_grpc(port: int, body: Body) -> Reply:
    import grpc  # no other form needs it

    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)]) as channel:
        try:
            return Reply(200, {}, channel.unary_unary(GRPC_METHOD)(body.content[5:], timeout=120.0))
        except grpc.RpcError as error:
            raise Lost(str(error)) from error


def infer_body(images: FloatArray, ebv: FloatArray, *outputs: str) -> Body:
    """Write a request of the Open Inference Protocol."""
    message = open_inference.encode_request([Tensor.of("images", images), Tensor.of("ebv", ebv)], outputs)
    return Body(bytes(message.body), (f"{HEADER_LENGTH}: {message.header_length}",))


def infer_request(path: str, images: FloatArray, ebv: FloatArray, *outputs: str) -> bytes:
    """Write the whole HTTP request around `infer_body`."""
    body = infer_body(images, ebv, *outputs)
    return request("POST", path, body.content, *body.headers)


def read_tensors(reply: Reply) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays in an answer of the Open Inference Protocol; `MalformedInput` if it is not one."""
    length = open_inference.read_header_length(reply.headers.get(HEADER_LENGTH))
    return {name: tensor.array for name, tensor in open_inference.decode_response(reply.body, length).outputs.items()}


def _open_inference(*outputs: str) -> Form:
    return Form(lambda images, ebv: infer_body(images, ebv, *outputs), lambda reply, n: read_tensors(reply)["pdf"])


def _grpc_body(images: FloatArray, ebv: FloatArray) -> Body:
    from tritonclient.grpc import service_pb2  # with grpc, which no other form needs

    elements = [pixels.tobytes() + reddening.tobytes() for pixels, reddening in zip(images, ebv, strict=True)]
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="cutouts", datatype="BYTES", shape=[len(elements), 1])
    raw = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    message = service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[raw])
    content = bytes(message.SerializeToString())
    framed = b"\0" + len(content).to_bytes(4, "big") + content  # not compressed, and its length
    return Body(framed, ("content-type: application/grpc", "te: trailers"), is_grpc=True)


def _grpc_pdfs(reply: Reply, n: int) -> Pdfs:
    from tritonclient.grpc import service_pb2

    raw = service_pb2.ModelInferResponse.FromString(reply.body).raw_output_contents[0]
    size = len(raw) // n  # 4 bytes of length, then a PDF
    return np.frombuffer(raw, np.uint8).reshape(n, size)[:, 4:].copy().view("<f4")


FORMS = {
    "v2": _open_inference("pdf"),
    "v2-full": _open_inference("pdf", "z_mean", "flags"),
    "raw": Form(
        lambda images, ebv: Body(images.tobytes() + ebv.tobytes(), ("Content-Type: application/octet-stream",)),
        lambda reply, n: np.frombuffer(reply.body, "<f4").reshape(n, -1),
    ),
    "grpc": Form(_grpc_body, _grpc_pdfs),
}
