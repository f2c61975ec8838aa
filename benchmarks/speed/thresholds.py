"""Thresholds for the service's speed, as ratios to what runs on the same machine, and for its memory."""

from benchmarks.harness.results import Threshold

FULL = "v2-full"  # the form that asks for estimates and flags in addition to the PDFs

LOADS = {"1x64": "64 images a request, one client", "32x1": "single images, 32 clients"}

RATE = "images_per_s"


def ratio(what: str, over: str, under: str, *limits: float, column: str = RATE) -> Threshold:
    """Set limit and goal of a ratio of two measurements: upper ones for times."""
    return Threshold(what, (over, column), (under, column), *limits, at_most=column != RATE)


def _speed_of(label: str, batch: int, limit: float) -> Threshold:
    what = f"{label}: engine / Keras predict_on_batch, batches of {batch}"
    return ratio(what, f"{label}/engine/{batch}", f"{label}/keras/{batch}", limit)


def _overhead_of(label: str, limit: float) -> Threshold:
    what = f"{label}: service / engine alone, 64 images a request"
    return ratio(what, f"{label}/service/1x64", f"{label}/engine/64", limit)


def _start_of(label: str) -> Threshold:
    what = f"{label}: start to first answer / import tensorflow"
    return ratio(what, f"{label}/start", "tensorflow/import", 0.7, column="seconds")


def _memory_of(label: str, limit: float) -> Threshold:
    what = f"{label}: peak resident memory of all the service's processes, MB"
    return Threshold(what, (f"{label}/memory", "rss_mb"), limit=limit, at_most=True)


def _cost_of(label: str, load: str) -> Threshold:
    """Report the cost of the estimates and flags, which the engine alone and the peers do not give."""
    what = f"{label}: service asked for pdf, z_mean and flags / for the pdf alone, {LOADS[load]}"
    return ratio(what, f"{label}/service/{load}/full", f"{label}/service/{load}")


OURS = (
    _speed_of("inception", 16, 3.2),
    _speed_of("inception", 64, 3.5),
    ratio(
        "compact over HTTP, 64 images a request / the document's network (inception) by Keras alone, batches of 64",
        *("compact/service/1x64", "inception/keras/64", 16, 30),
    ),
    _overhead_of("inception", 0.95),
    _overhead_of("compact", 0.90),
    ratio(
        "inception: service with 8 clients of single images / engine alone with batches of 8",
        *("inception/service/8x1", "inception/engine/8", 0.70, 0.85),
    ),
    ratio(
        "compact: service / plain prototype, 32 clients of single images",
        *("compact/service/32x1", "compact/prototype/32x1", 1.6, 2.5),
    ),
    ratio(
        "inception: p50 of a single image by one client / engine alone",
        *("inception/service/1x1", "inception/engine/1", 1.45, 1.25),
        column="p50_ms",
    ),
    Threshold(
        "compact: p99 / p50 of single images that come at random at 70 % of what 32 clients reach",
        ("compact/service/open", "p99_ms"),
        ("compact/service/open", "p50_ms"),
        limit=3,
        at_most=True,
    ),
    _start_of("compact"),
    _start_of("inception"),
    _memory_of("compact", 450),
    _memory_of("inception", 700),
    *(_cost_of(label, load) for label in ("inception", "compact") for load in LOADS),
)

_AGAINST_PEERS = {
    "inception": {"1x64": (3.7, 4.5), "32x1": (3.5, 4.5)},
    "compact": {"1x64": (2.2, 3.0), "32x1": (2.5, 4.0)},
}


def against_peers(label: str) -> tuple[Threshold, ...]:
    """Return the thresholds for the service against the best peer in each round, for a bundle's architecture."""
    found = []
    for load, words in LOADS.items():
        ours, best = f"{label}/service/{load}", f"{label}/best peer/{load}"
        limits = _AGAINST_PEERS.get(label, {}).get(load, ())
        found.append(ratio(f"{label}: service / best peer, {words}", ours, best, *limits))
        full = f"{label}: service asked for pdf, z_mean and flags / best peer, {words}"
        found.append(ratio(full, f"{ours}/full", best))
    return tuple(found)
