"""Metrics of a worker, in the text format of Prometheus at `/metrics`. All label sets are bounded."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from photoz import drift
from photoz.flags import Flag
from photoz.model.card import Card
from service.request import OTHER, PATHS, Request

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
INFERENCE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
REQUEST_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)

LABELS = (*sorted(PATHS), "/v2/infer", "/v2", OTHER)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")

# Series that start at 0: Prometheus sees no rise in one that starts at 5.
WORK = ("/predict", "/predict_file", "/evaluate", "/v2/infer")
STATUSES = ("200", "400", "401", "413", "422", "429", "500", "504")

Columns = Mapping[str, npt.NDArray[Any]]
T = TypeVar("T")


class Metrics:
    """What one worker has done since it started, and what the card of its model says of the test galaxies."""

    def __init__(self, card: Card) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self._requests = counter("photoz_requests", "Requests that have ended", ["route", "method", "status"])
        self._seconds = histogram(
            "photoz_request_duration_seconds",
            "From the head of a request to the end of its response",
            ["route"],
            buckets=DURATION_BUCKETS,
        )
        self._received = counter("photoz_request_body_bytes", "Bytes of request bodies", ["route"])
        self._request_rows = histogram("photoz_request_rows", "Galaxies in a request", buckets=REQUEST_BUCKETS)
        self._batch_rows = histogram("photoz_batch_rows", "Galaxies in a batch of the network", buckets=BATCH_BUCKETS)
        self._inference_seconds = histogram(
            "photoz_inference_duration_seconds", "Of one batch in the network", buckets=INFERENCE_BUCKETS
        )
        self._failures = counter("photoz_inference_failures", "Batches that failed")
        self._flags = counter("photoz_flags", "Estimates with this flag", ["flag"])
        # To find a series takes longer than to count.
        self._requests_of, self._seconds_of = cache(self._requests.labels), cache(self._seconds.labels)
        self._received_of = cache(self._received.labels)
        self._show_card(card)
        self._distributions = Distributions(card)
        self._registry.register(self._distributions)
        ProcessCollector(registry=self._registry)
        for route in LABELS:
            self._seconds.labels(route)
        for route, status in product(WORK, STATUSES):
            self._requests.labels(route, "POST", status)
        for flag in Flag:
            self._flags.labels(flag.name)

    def _show_card(self, card: Card) -> None:
        info = Gauge("photoz_model_info", "1; the model that answers", ["model", "version"], registry=self._registry)
        info.labels(card.name, card.version).set(1)
        text = "Fraction of the galaxies of the model card whose value is at or below le"
        fractions = Gauge("photoz_reference_fraction", text, ["quantity", "le"], registry=self._registry)
        for quantity, histogram in (card.reference.histograms if card.reference else {}).items():
            for edge, fraction in zip(histogram.edges, histogram.fractions, strict=True):
                fractions.labels(quantity, floatToGoString(edge)).set(fraction)  # type: ignore[no-untyped-call]

    def add_gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Expose a value that is read whenever the metrics are."""
        Gauge(name, documentation, registry=self._registry).set_function(value)

    def record_request(self, request: Request) -> None:
        """Count a request that has ended."""
        method = request.method if request.method in METHODS else OTHER
        self._requests_of(request.route, method, str(request.status)).inc()
        self._seconds_of(request.route).observe(time.perf_counter() - request.begin)
        if request.received_bytes:
            self._received_of(request.route).inc(request.received_bytes)
        if request.rows:
            self._request_rows.observe(request.rows)

    def measure_inference(self, run_network: Callable[..., T]) -> Callable[..., T]:
        """Wrap the step through the network: its batches and seconds are counted."""

        def measured(batch: Any) -> T:
            with self._failures.count_exceptions(), self._inference_seconds.time():
                output = run_network(batch)
            self._batch_rows.observe(len(batch))
            return output

        return measured

    def measure_estimates(self, summarise: Callable[..., Columns]) -> Callable[..., Columns]:
        """Wrap the step from the network to the estimates: flags and distributions are counted, if requested."""

        def measured(*arguments: Any) -> Columns:
            columns = summarise(*arguments)
            for flag in Flag if "flags" in columns else ():
                self._flags.labels(flag.name).inc(int(np.count_nonzero(columns["flags"] & flag)))
            self._distributions.add(columns)
            return columns

        return measured

    def exposition(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class Distributions(Collector):
    """Distributions of the estimates, in the buckets of those in the model card.

    prometheus_client takes microseconds for each value; here numpy counts a batch at once.
    """

    def __init__(self, card: Card) -> None:
        self._lock = threading.Lock()  # the batcher has two threads
        self._edges = {name: np.asarray(edges, dtype=np.float64) for name, edges in _edges(card).items()}
        self._counts = {name: np.zeros(len(edges) + 1, dtype=np.int64) for name, edges in self._edges.items()}
        self._sums = dict.fromkeys(self._edges, 0.0)

    def add(self, columns: Columns) -> None:
        """Count the estimates of a batch; NaN is left out."""
        with self._lock:
            for name, values in drift.quantities(columns).items():
                if name in self._edges:
                    known = values[~np.isnan(values)]
                    bins = np.searchsorted(self._edges[name], known)
                    self._counts[name] += np.bincount(bins, minlength=len(self._counts[name]))
                    self._sums[name] += float(known.sum())

    def collect(self) -> Iterator[Metric]:
        """Yield the distributions; the registry calls this."""
        estimates = HistogramMetricFamily("photoz_estimates", "Distribution of the estimates", labels=["quantity"])
        with self._lock:
            for quantity, edges in self._edges.items():
                names = [*map(floatToGoString, edges.tolist()), "+Inf"]
                buckets = list(zip(names, self._counts[quantity].cumsum().tolist(), strict=True))
                estimates.add_metric([quantity], buckets, self._sums[quantity])
        yield estimates


def _edges(card: Card) -> Mapping[str, Sequence[float]]:
    if card.reference:
        return {name: histogram.edges for name, histogram in card.reference.histograms.items()}
    return {name: edges for name, edges in drift.edges(card.grid).items() if card.ood or name != drift.OOD_SCORE}
