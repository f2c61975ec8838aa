"""Good requests, and the right answers: what the service said while it did nothing else.

A cutout's PDF does not depend on which others are in the batch, bit for bit, with the engines of the bundle that
ships; so one reference serves for single cutouts, for 64 and for any number.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.cutouts import cutouts
from benchmarks.endurance.client import Connection, Reply, request, tensors
from photoz.protocol import open_inference
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import Tensor

DISTINCT = 64  # cutouts that differ
TOLERANCE = 1e-6  # of a PDF's bin, and of a redshift

NO_DIFFERENCE = 0.0

FloatArray = npt.NDArray[np.floating]


class WrongAnswer(Exception):
    """An answer that is not the right one to this request."""


@dataclass(frozen=True)
class Good:
    """A request that is to be answered, and how.

    Parameters
    ----------
    kind : str
        In a word.
    content : bytes
        All of it, with its head.
    rows : int
        Cutouts in it.
    difference : callable
        From an answer of status 200 to how far its values are from the right ones; raises `WrongAnswer`, or what
        reading something else raises.
    """

    kind: str
    content: bytes
    rows: int
    difference: Callable[[Reply], float]

    def check(self, reply: Reply) -> float:
        """Give the largest difference from the right values, at most `TOLERANCE`; raise `WrongAnswer` otherwise."""
        if reply.status != 200:
            raise WrongAnswer(f"{self.kind}: status {reply.status}: {reply.body[:200]!r}")
        try:
            found = self.difference(reply)
        except (LookupError, ValueError, TypeError) as error:
            raise WrongAnswer(f"{self.kind}: unreadable: {error!r}") from error
        if not found <= TOLERANCE:  # NaN is no answer either
            raise WrongAnswer(f"{self.kind}: values are off by {found:g}")
        return found


@dataclass(frozen=True)
class Reference:
    """What the service says of the distinct cutouts when it does nothing else.

    Parameters
    ----------
    path : str
        Of the protocol's inference.
    pdf : (64, n_bins) float32
        Probability mass in each bin.
    z_mean : (64,) float64
        Means of the PDFs.
    """

    path: str
    pdf: FloatArray
    z_mean: FloatArray

    @classmethod
    async def ask(cls, port: int, path: str) -> "Reference":
        """Ask a service that has nothing else to do: all at once, and then again one by one."""
        connection = await Connection.open(port)
        try:
            answer = await connection.ask(infer_request(path, 0, DISTINCT))
            if answer.status != 200:
                raise WrongAnswer(f"reference: status {answer.status}: {answer.body[:200]!r}")
            found = tensors(answer)
            reference = cls(path, found["pdf"], found["z_mean"])
            for number in range(DISTINCT):
                good = reference.infer(1, number)
                good.check(await connection.ask(good.content))
            return reference
        finally:
            connection.close()

    def infer(self, n: int, first: int = 0) -> Good:
        """Ask for PDF and mean of n cutouts by the Open Inference Protocol."""
        rows = (first + np.arange(n)) % DISTINCT

        def difference(reply: Reply) -> float:
            found = tensors(reply)
            off = _largest(found["pdf"], self.pdf[rows]), _largest(found["z_mean"], self.z_mean[rows])
            return float(np.max(off))  # NaN if either is

        return Good(f"infer-{n}", infer_request(self.path, first, n), n, difference)

    def file(self, n: int, first: int = 0) -> Good:
        """Send n cutouts as an .npz file, and ask for JSON."""
        rows = (first + np.arange(n)) % DISTINCT
        content = request("POST", "/predict_file", npz(n, first), content_type="application/x-npz")

        def difference(reply: Reply) -> float:
            table = json.loads(reply.body)
            if table["object_id"] != [f"g{row}" for row in rows]:
                raise WrongAnswer(f"names of other galaxies: {table['object_id'][:3]}")
            return _largest(np.array(table["z_mean"]), self.z_mean[rows])

        return Good(f"file-{n}", content, n, difference)


def metrics_scrape() -> Good:
    """Read the metrics, as Prometheus does."""

    def difference(reply: Reply) -> float:
        if b"# TYPE " not in reply.body:
            raise WrongAnswer(f"no metrics: {reply.body[:80]!r}")
        return NO_DIFFERENCE

    return Good("metrics", request("GET", "/metrics"), 0, difference)


def alive() -> Good:
    """Ask whether the service lives: the cheapest of all requests."""
    return Good("livez", request("GET", "/livez"), 0, lambda reply: NO_DIFFERENCE)


def ready() -> bytes:
    """Ask whether the service is ready."""
    return request("GET", "/readyz")


def infer_message(n: int, first: int = 0, *outputs: str) -> tuple[bytes, int]:
    """Write the body that asks for outputs, by default PDF and mean, of n cutouts, and tell where its JSON ends."""
    images, ebv = cutouts(n, first)
    inputs = [Tensor.of("images", images), Tensor.of("ebv", ebv)]
    message = open_inference.encode_request(inputs, outputs or ("pdf", "z_mean"))
    return bytes(message.body), int(message.header_length or 0)


def infer_request(path: str, first: int, n: int, *outputs: str) -> bytes:
    """Write the whole request around `infer_message`."""
    body, length = infer_message(n, first, *outputs)
    return request("POST", path, body, f"{HEADER_LENGTH}: {length}", content_type="application/octet-stream")


def npz(n: int, first: int = 0) -> bytes:
    """Write n cutouts as an .npz file; their names tell which ones they are."""
    images, ebv = cutouts(n, first)
    names = np.array([f"g{row}" for row in (first + np.arange(n)) % DISTINCT])
    file = io.BytesIO()
    np.savez(file, images=images, ebv=ebv, object_id=names)
    return file.getvalue()


def _largest(found: npt.NDArray[np.generic], expected: FloatArray) -> float:
    if found.shape != expected.shape:
        raise WrongAnswer(f"expected shape {expected.shape}, got {found.shape}")
    return float(np.abs(found - expected).max())
