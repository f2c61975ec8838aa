"""Well-formed requests with known answers: those that the service gave while it was idle.

A cutout's PDF does not depend on which others are in the batch, bit for bit, with the engines of the shipped bundle; so
one reference serves for any number of cutouts.
"""

import json
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.cutouts import DISTINCT, EXAMPLES, cutouts
from benchmarks.harness.http_client import Connection, Reply, request
from benchmarks.harness.messages import infer_request, read_tensors
from tests.attack.files import npz_bytes

TOLERANCE = 1e-6  # of a PDF's bin, and of a redshift
LONG = 1000  # cutouts in a long request
OUTPUTS = ("pdf", "z_mean")


class WrongAnswer(Exception):
    """An answer that is not the right one to its request."""


@dataclass(frozen=True)
class CheckedRequest:
    """A whole request, its kind in a word, and how far the values of an answer with status 200 are from the right."""

    kind: str
    content: bytes
    difference: Callable[[Reply], float]  # it raises `WrongAnswer`, or whatever reading another answer raises

    def check(self, reply: Reply) -> float:
        """Return the largest difference from the right values, at most `TOLERANCE`; raise `WrongAnswer` otherwise."""
        if reply.status != 200:
            raise WrongAnswer(f"status {reply.status}: {reply.body[:200]!r}")
        try:
            difference = self.difference(reply)
        except (LookupError, ValueError, TypeError) as error:
            raise WrongAnswer(f"cannot read the answer: {error!r}") from error
        if not difference <= TOLERANCE:  # NaN is wrong
            raise WrongAnswer(f"values are off by {difference:g}")
        return difference


@dataclass(frozen=True)
class Reference:
    """Answers of an idle service: PDFs (64, n_bins) and their means (64,), and the path of its inference."""

    path: str
    pdf: npt.NDArray[Any]
    z_mean: npt.NDArray[Any]

    @classmethod
    def ask(cls, port: int, path: str) -> "Reference":
        """Ask an idle service: for all cutouts at once, and then one by one."""
        with closing(Connection(port)) as connection:
            answer = connection.ask(infer_request(path, *cutouts(DISTINCT), *OUTPUTS))
            if answer.status != 200:
                raise WrongAnswer(f"reference: status {answer.status}: {answer.body[:200]!r}")
            tensors = read_tensors(answer)
            reference = cls(path, tensors["pdf"], tensors["z_mean"])
            for number in range(DISTINCT):
                single = reference.infer(1, number)
                single.check(connection.ask(single.content))
            return reference

    def infer(self, n: int, first: int = 0) -> CheckedRequest:
        """Ask for PDF and mean of n cutouts by the Open Inference Protocol."""
        rows = (first + np.arange(n)) % DISTINCT

        def difference(reply: Reply) -> float:
            tensors = read_tensors(reply)
            off = _largest(tensors["pdf"], self.pdf[rows]), _largest(tensors["z_mean"], self.z_mean[rows])
            return float(np.max(off))  # NaN if either is

        return CheckedRequest(f"infer-{n}", infer_request(self.path, *cutouts(n, first), *OUTPUTS), difference)

    def file(self, n: int, first: int = 0) -> CheckedRequest:
        """Send n cutouts as an .npz file, and ask for JSON."""
        rows = (first + np.arange(n)) % DISTINCT
        content = request("POST", "/predict_file", npz(n, first), content_type="application/x-npz")

        def difference(reply: Reply) -> float:
            table = json.loads(reply.body)
            if table["object_id"] != [f"g{row}" for row in rows]:
                raise WrongAnswer(f"names of other galaxies: {table['object_id'][:3]}")
            return _largest(np.array(table["z_mean"]), self.z_mean[rows])

        return CheckedRequest(f"file-{n}", content, difference)


def _contains(part: bytes) -> Callable[[Reply], float]:
    return lambda reply: 0.0 if part in reply.body else float("inf")


READY = request("GET", "/readyz")
ALIVE = CheckedRequest("livez", request("GET", "/livez"), _contains(b""))  # the cheapest request
METRICS = CheckedRequest("metrics", request("GET", "/metrics"), _contains(b"# TYPE "))


def plot() -> CheckedRequest:
    """Ask for a plot of the examples."""
    content = request("POST", "/evaluate?plot=scatter", EXAMPLES.read_bytes(), content_type="application/x-npz")
    return CheckedRequest("plot", content, _contains(b"\x89PNG"))


class Mix:
    """A mix of requests: most of them for single cutouts, some for 64, few files, and scrapes of the metrics."""

    def __init__(self, reference: Reference, seed: int) -> None:
        self._random = random.Random(seed)
        weighted = [(70, reference.infer(1, first)) for first in range(0, 64, 8)]
        weighted += [(10, reference.infer(64, first)) for first in range(4)]
        weighted += [(5, reference.file(4, first)) for first in range(0, 64, 16)]
        self._weights, self._requests = zip(*weighted, (5, METRICS), strict=True)

    def choose(self) -> CheckedRequest:
        """Draw one."""
        return self._random.choices(self._requests, self._weights)[0]


def npz(n: int, first: int = 0) -> bytes:
    """Write n cutouts as an .npz file, named by their numbers."""
    images, ebv = cutouts(n, first)
    names = [f"g{row}" for row in (first + np.arange(n)) % DISTINCT]
    return npz_bytes(images=images, ebv=ebv, object_id=np.array(names))


def _largest(values: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    if values.shape != expected.shape:
        raise WrongAnswer(f"expected shape {expected.shape}, got {values.shape}")
    return float(np.abs(values - expected).max())
