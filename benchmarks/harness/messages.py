"""Requests for PDFs, and the PDFs in the answers, for each kind of server.

`v2` is the Open Inference Protocol with binary tensors, which the service and its prototype speak; it asks for the PDFs
alone, since the engine and the peers give no more, and `v2-full` for estimates and flags too. `raw` is for peers that
give an application the body as it is: the pixels, then one reddening per cutout, all float32; they answer with the PDFs
alone. `grpc` is the protocol over gRPC as MLServer takes it fastest: each cutout is one element of type BYTES, its
pixels and then its reddening, and each answer is a PDF.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.harness.cutouts import FloatArray
from benchmarks.harness.http_client import request
from photoz.protocol import open_inference
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor

Pdfs = npt.NDArray[np.floating]
Headers = Mapping[str, str]

BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Form:
    """How a kind of server takes its requests, and how it answers.

    Parameters
    ----------
    encode : callable
        From path, images and ebv to the request: all of it, or its message where `over_grpc`.
    decode : callable
        From the headers and the body of an answer, and the number of cutouts, to the PDFs, (n, n_bins).
    over_grpc : bool
        Whether it goes over gRPC in place of HTTP/1.1; the path then names the model.
    """

    encode: Callable[[str, FloatArray, FloatArray], bytes]
    decode: Callable[[Headers, bytes, int], Pdfs]
    over_grpc: bool = False


def infer_body(images: FloatArray, ebv: FloatArray, outputs: tuple[str, ...]) -> tuple[bytes, int]:
    """Write a request of the Open Inference Protocol; return it, and the length of its JSON."""
    message = open_inference.encode_request([Tensor.of("images", images), Tensor.of("ebv", ebv)], outputs)
    return bytes(message.body), message.header_length or 0


def infer_request(path: str, images: FloatArray, ebv: FloatArray, *outputs: str) -> bytes:
    """Write the whole HTTP request around `infer_body`."""
    body, length = infer_body(images, ebv, outputs)
    return request("POST", path, body, f"{HEADER_LENGTH}: {length}", content_type=BINARY)


def read_tensors(headers: Headers, body: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays in an answer of the Open Inference Protocol; `MalformedInput` if it is not one."""
    length = open_inference.read_header_length(headers.get(HEADER_LENGTH))
    return {name: tensor.array for name, tensor in open_inference.decode_response(body, length).outputs.items()}


def _open_inference(*outputs: str) -> Form:
    return Form(
        lambda path, images, ebv: infer_request(path, images, ebv, *outputs),
        lambda headers, body, n: read_tensors(headers, body)["pdf"],
    )


def _raw_request(path: str, images: FloatArray, ebv: FloatArray) -> bytes:
    return request("POST", path, images.tobytes() + ebv.tobytes(), content_type=BINARY)


def _grpc_message(path: str, images: FloatArray, ebv: FloatArray) -> bytes:
    from tritonclient.grpc import service_pb2  # with grpc, which no other form needs

    cutouts = [pixels.tobytes() + reddening.tobytes() for pixels, reddening in zip(images, ebv, strict=True)]
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="cutouts", datatype="BYTES", shape=[len(cutouts), 1])
    raw = b"".join(len(cutout).to_bytes(4, "little") + cutout for cutout in cutouts)
    message = service_pb2.ModelInferRequest(model_name=path, inputs=[tensor], raw_input_contents=[raw])
    return bytes(message.SerializeToString())


def _grpc_pdfs(headers: Headers, body: bytes, n: int) -> Pdfs:
    from tritonclient.grpc import service_pb2

    raw = service_pb2.ModelInferResponse.FromString(body).raw_output_contents[0]
    size = len(raw) // n  # 4 bytes of length, then a PDF
    return np.frombuffer(raw, np.uint8).reshape(n, size)[:, 4:].copy().view("<f4")


FORMS = {
    "v2": _open_inference("pdf"),
    "v2-full": _open_inference("pdf", "z_mean", "flags"),
    "raw": Form(_raw_request, lambda headers, body, n: np.frombuffer(body, "<f4").reshape(n, -1)),
    "grpc": Form(_grpc_message, _grpc_pdfs, over_grpc=True),
}
