"""What is measured, as Prometheus reads it from `/metrics`.

All label sets are bounded. Values live in this process, as numpy arrays for the histograms, so that a batch costs
microseconds. prometheus_client's own counters would be files in memory here, since BentoML asks for its mode for many
processes: on a full disk these end the process.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from photoz import drift
from photoz.estimates import Flag
from photoz.inference.batch import Batch
from photoz.model.card import Card
from service.edge.visit import OTHER, ROUTES, Visit
from service.lane import Columns

CONTENT_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ENGINE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)
REQUEST_ROWS = (1, 4, 16, 64, 256, 1024, 4096)

LABELS = (*sorted(ROUTES), "/v2/infer", "/v2", OTHER)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")

# These are counted from 0: a series that begins with 5 has not risen, to Prometheus.
WORK = ("/predict", "/predict_file", "/evaluate", "/v2/infer")
STATUSES = ("200", "400", "401", "413", "422", "429", "500", "504")

# Why a connection may be ended before it brought a request (`service.edge.connection`).
REFUSALS = ("malformed", "slow", "headers", "too many")

T = TypeVar("T")


class Histogram:
    """Counts of values by how large they are.

    Parameters
    ----------
    edges : sequence of float
        Upper ends of the buckets, rising; what lies above the last has one of its own.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = np.asarray(edges, dtype=np.float64)
        self._names = [*map(floatToGoString, edges), "+Inf"]
        self.counts = np.zeros(len(self.edges) + 1, dtype=np.int64)
        self.sum = 0.0

    def add(self, values: npt.ArrayLike) -> None:
        """Count values of any shape; NaN is left out."""
        known = np.asarray(values, dtype=np.float64).ravel()
        known = known[~np.isnan(known)]
        self.counts += np.bincount(np.searchsorted(self.edges, known), minlength=len(self.counts))
        self.sum += float(known.sum())

    def add_one(self, value: float) -> None:
        """Count one value, in less time."""
        self.counts[self.edges.searchsorted(value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return what Prometheus asks for: upper end and how many lie at or below it."""
        return list(zip(self._names, self.counts.cumsum().tolist(), strict=True))


class Metrics:
    """What one worker has done since it started.

    Parameters
    ----------
    card : Card
        Of the model. What it says of the galaxies that it was tested on is handed out beside what comes in, in the
        same buckets.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._lock = threading.Lock()  # the lane's two threads, and the event loop
        self._requests = Counter({(route, "POST", status): 0 for route in WORK for status in STATUSES})
        self._seconds = {route: Histogram(SECONDS) for route in LABELS}
        self._received: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._request_rows, self._batch_rows = Histogram(REQUEST_ROWS), Histogram(ROWS)
        self._engine_seconds, self._engine_failures = Histogram(ENGINE_SECONDS), 0
        self._flags = dict.fromkeys((str(flag.name) for flag in Flag), 0)
        self._drift = {name: Histogram(edges) for name, edges in _drift_edges(card).items()}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Ask for a value whenever somebody looks."""
        self._gauges[name] = documentation, value

    def note_visit(self, visit: Visit) -> None:
        """Count a request that has ended."""
        route = visit.route
        self._requests[route, visit.method if visit.method in METHODS else OTHER, str(visit.status)] += 1
        self._seconds[route].add_one(visit.seconds)
        self._received[route] += visit.received
        if visit.rows:
            self._request_rows.add_one(visit.rows)

    def note_refused_connection(self, reason: str) -> None:
        """Count a connection that was ended before it brought a request."""
        self._connections[reason] += 1

    def measured(self, infer: Callable[..., T]) -> Callable[..., T]:
        """Return the step through the network, counted: its batches and seconds."""

        def measured(batch: Batch) -> T:
            begin = time.perf_counter()
            try:
                output = infer(batch)
            except BaseException:
                self._engine_failures += 1
                raise
            with self._lock:
                self._engine_seconds.add_one(time.perf_counter() - begin)
                self._batch_rows.add_one(len(batch))
            return output

        return measured

    def judged(self, summarise: Callable[..., Columns]) -> Callable[..., Columns]:
        """Return the step from the network to the estimates, counted: flags, and how the estimates are distributed.

        Counted is what somebody asked for: an estimate that nobody wants is not made.
        """

        def judged(*arguments: Any) -> Columns:
            columns = summarise(*arguments)
            with self._lock:
                for flag in Flag if "flags" in columns else ():
                    self._flags[str(flag.name)] += int(np.count_nonzero(columns["flags"] & flag))
                for name, values in drift.quantities(columns).items():
                    if name in self._drift:
                        self._drift[name].add(values)
            return columns

        return judged

    def exposition(self) -> bytes:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all families; `CollectorRegistry` asks for them."""
        with self._lock:
            families = [*self._of_the_model(), *self._of_requests(), *self._of_the_engine(), *self._of_estimates()]
        yield from families
        for name, (documentation, value) in self._gauges.items():
            yield GaugeMetricFamily(name, documentation, value())

    def _of_the_model(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("photoz_model_info", "1; which model answers", labels=["model", "version"])
        info.add_metric([self._card.name, self._card.version], 1)
        yield info
        reference = self._card.reference
        fractions = GaugeMetricFamily(
            "photoz_reference_fraction",
            "Part of the galaxies of the model card whose value lies at or below le",
            labels=["quantity", "le"],
        )
        for quantity, found in (reference.histograms if reference else {}).items():
            for edge, fraction in zip(found.edges, found.fractions, strict=True):
                fractions.add_metric([quantity, floatToGoString(edge)], fraction)
        yield fractions

    def _of_requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily("photoz_requests", "Requests answered", labels=["route", "method", "status"])
        for labels, count in self._requests.items():
            total.add_metric(labels, count)
        received = CounterMetricFamily("photoz_received_bytes", "Bytes of bodies", labels=["route"])
        for route, size in self._received.items():
            received.add_metric([route], size)
        refused = CounterMetricFamily(
            "photoz_refused_connections", "Connections ended before a request was whole", labels=["reason"]
        )
        for reason in REFUSALS:
            refused.add_metric([reason], self._connections[reason])
        seconds = HistogramMetricFamily(
            "photoz_request_seconds", "From the head of a request to the end of its answer", labels=["route"]
        )
        for route, histogram in self._seconds.items():
            seconds.add_metric([route], histogram.buckets(), histogram.sum)
        yield from (total, received, refused, seconds)
        yield _family("photoz_request_rows", "Galaxies in a request", self._request_rows)

    def _of_the_engine(self) -> Iterator[Metric]:
        yield _family("photoz_batch_rows", "Galaxies that went through the network together", self._batch_rows)
        yield _family("photoz_engine_seconds", "Of one step through the network", self._engine_seconds)
        yield CounterMetricFamily("photoz_engine_failures", "Steps that failed", self._engine_failures)

    def _of_estimates(self) -> Iterator[Metric]:
        flags = CounterMetricFamily("photoz_flags", "Estimates that a flag was raised for", labels=["flag"])
        for flag, count in self._flags.items():
            flags.add_metric([flag], count)
        yield flags
        estimates = HistogramMetricFamily("photoz_estimates", "How the estimates are distributed", labels=["quantity"])
        for quantity, histogram in self._drift.items():
            estimates.add_metric([quantity], histogram.buckets(), histogram.sum)
        yield estimates


def _drift_edges(card: Card) -> Mapping[str, Sequence[float]]:
    if card.reference:
        return {name: found.edges for name, found in card.reference.histograms.items()}
    return {name: edges for name, edges in drift.edges(card.grid).items() if card.ood or name != drift.OOD_SCORE}


def _family(name: str, documentation: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, documentation, histogram.buckets(), histogram.sum)
