"""Requests for PDFs, and the PDFs in the answers, for each kind of server.

`v2` is the Open Inference Protocol with binary tensors, for the service; it asks for the PDFs alone, since the peers
give no more, and `v2-full` for estimates and flags too. `raw` is for peers: the pixels, then one reddening per cutout,
all float32; the answer is the PDFs.
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


class BadReply(Exception):
    """A server answered otherwise than it should, or not at all."""


class Body(NamedTuple):
    """The body of a request, and the headers that belong to it."""

    content: bytes
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """How a kind of server takes its requests: `encode` images and ebv, `decode` the PDFs of n cutouts, (n, n_bins)."""

    encode: Callable[[FloatArray, FloatArray], Body]
    decode: Callable[[Reply, int], Pdfs]

    def ask(self, port: int, path: str, n: int) -> Pdfs:
        """Ask a server for the PDFs of n cutouts; `BadReply` if it does not give them."""
        body = self.encode(*cutouts(n))
        try:
            with closing(Connection(port)) as connection:
                reply = connection.ask(request("POST", path, body.content, *body.headers))
        except (Lost, NotHttp, Refused) as error:
            raise BadReply(str(error)) from error
        if reply.status != 200:
            raise BadReply(f"expected status 200, got {reply.status}: {reply.body[:300]!r}")
        try:
            return self.decode(reply, n)
        except (LookupError, ValueError) as error:
            raise BadReply(f"cannot read the answer: {error!r}") from error


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


FORMS = {
    "v2": _open_inference("pdf"),
    "v2-full": _open_inference("pdf", "z_mean", "flags"),
    "raw": Form(
        lambda images, ebv: Body(images.tobytes() + ebv.tobytes(), ("Content-Type: application/octet-stream",)),
        lambda reply, n: np.frombuffer(reply.body, "<f4").reshape(n, -1),
    ),
}
