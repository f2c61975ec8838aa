"""Thresholds for the service's speed, as ratios to what runs on the same machine, and for its memory."""

from benchmarks.harness.results import Quantity, Threshold

FULL = "v2-full"  # the form that asks for estimates and flags in addition to the PDFs

LOADS = {"1x64": "64 images a request, one client", "32x1": "single images, 32 clients"}


def ratio(what: str, over: str, under: str, *limits: float, column: str = "images_per_s") -> Threshold:
    """Set limit and goal of a ratio of two measurements: upper ones for times."""
    at_most = column != "images_per_s"
    return Threshold(what, Quantity(over, column), Quantity(under, column), *limits, at_most=at_most)


OURS = (
    ratio(
        "inception: engine / Keras predict_on_batch, batches of 16", "inception/engine/16", "inception/keras/16", 3.2
    ),
    ratio(
        "inception: engine / Keras predict_on_batch, batches of 64", "inception/engine/64", "inception/keras/64", 3.5
    ),
    ratio(
        "compact over HTTP, 64 images a request / the document's network (inception) by Keras alone, batches of 64",
        "compact/service/1x64",
        "inception/keras/64",
        *(16, 30),
    ),
    ratio(
        "inception: service / engine alone, 64 images a request", "inception/service/1x64", "inception/engine/64", 0.95
    ),
    ratio("compact: service / engine alone, 64 images a request", "compact/service/1x64", "compact/engine/64", 0.9),
    ratio(
        "inception: service with 8 clients of single images / engine alone with batches of 8",
        "inception/service/8x1",
        "inception/engine/8",
        *(0.7, 0.85),
    ),
    ratio(
        "compact: service / plain prototype, 32 clients of single images",
        "compact/service/32x1",
        "compact/prototype/32x1",
        *(1.6, 2.5),
    ),
    ratio(
        "inception: p50 of a single image by one client / engine alone",
        "inception/service/1x1",
        "inception/engine/1",
        *(1.45, 1.25),
        column="p50_ms",
    ),
    Threshold(
        "compact: p99 / p50 of single images that come at random at 70 % of what 32 clients reach",
        Quantity("compact/service/open", "p99_ms"),
        Quantity("compact/service/open", "p50_ms"),
        limit=3,
        at_most=True,
    ),
    *(
        ratio(
            f"{label}: start to first answer / import tensorflow",
            f"{label}/start",
            "tensorflow/import",
            0.7,
            column="seconds",
        )
        for label in ("compact", "inception")
    ),
    *(
        Threshold(
            f"{label}: peak resident memory of all the service's processes, MB",
            Quantity(f"{label}/memory", "rss_mb"),
            limit=limit,
            at_most=True,
        )
        for label, limit in (("compact", 450), ("inception", 700))
    ),
    # The cost of the estimates and flags, which the engine alone and the peers do not give: no limit.
    *(
        ratio(
            f"{label}: service asked for pdf, z_mean and flags / for the pdf alone, {words}",
            f"{label}/service/{load}/full",
            f"{label}/service/{load}",
        )
        for label in ("inception", "compact")
        for load, words in LOADS.items()
    ),
)

_AGAINST_PEERS = {
    "inception": {"1x64": (3.7, 4.5), "32x1": (3.5, 4.5)},
    "compact": {"1x64": (2.2, 3.0), "32x1": (2.5, 4.0)},
}


def against_peers(label: str) -> tuple[Threshold, ...]:
    """Return the thresholds for the service against the best peer in each round, for a bundle's architecture."""
    limits = _AGAINST_PEERS.get(label, {})
    return tuple(
        ratio(
            f"{label}: service{asked} / best peer, {words}",
            f"{label}/service/{load}{form}",
            f"{label}/best peer/{load}",
            *wanted,
        )
        for load, words in LOADS.items()
        for asked, form, wanted in (
            ("", "", limits.get(load, ())),
            (" asked for pdf, z_mean and flags", "/full", ()),
        )
    )
