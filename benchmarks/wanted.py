"""The figures that are wanted of the service, each as a ratio to something that runs beside it."""

from benchmarks.results import Quantity, Wanted

LOADS = {"1x64": "64 images a request, one client", "32x1": "single images, 32 clients"}

# What the estimates and flags cost that the engine alone and the peers do not give: no limit, but nobody shall wonder.
_FULL = tuple(
    Wanted(
        f"{label}: service asked for pdf, z_mean and flags / for the pdf alone, {words}",
        Quantity(f"{label}/service/{load}/full"),
        Quantity(f"{label}/service/{load}"),
    )
    for label in ("inception", "compact")
    for load, words in LOADS.items()
)

OURS = (
    Wanted(
        "inception: engine / Keras predict_on_batch, batches of 16",
        Quantity("inception/engine/16"),
        Quantity("inception/keras/16"),
        3.2,
    ),
    Wanted(
        "inception: engine / Keras predict_on_batch, batches of 64",
        Quantity("inception/engine/64"),
        Quantity("inception/keras/64"),
        3.5,
    ),
    Wanted(
        "compact over HTTP, 64 images a request / the document's network (inception) by Keras alone, batches of 64",
        Quantity("compact/service/1x64"),
        Quantity("inception/keras/64"),
        16,
        30,
    ),
    Wanted(
        "inception: service / engine alone, 64 images a request",
        Quantity("inception/service/1x64"),
        Quantity("inception/engine/64"),
        0.95,
    ),
    Wanted(
        "compact: service / engine alone, 64 images a request",
        Quantity("compact/service/1x64"),
        Quantity("compact/engine/64"),
        0.90,
    ),
    Wanted(
        "inception: service with 8 clients of single images / engine alone with batches of 8",
        Quantity("inception/service/8x1"),
        Quantity("inception/engine/8"),
        0.70,
        0.85,
    ),
    Wanted(
        "compact: service / plain prototype, 32 clients of single images",
        Quantity("compact/service/32x1"),
        Quantity("compact/prototype/32x1"),
        1.6,
        2.5,
    ),
    Wanted(
        "inception: p50 of a single image by one client / engine alone",
        Quantity("inception/service/1x1", "p50_ms"),
        Quantity("inception/engine/1", "p50_ms"),
        1.45,
        1.25,
        at_most=True,
    ),
    Wanted(
        "compact: p99 / p50 of single images that come at random at 70 % of what 32 clients reach",
        Quantity("compact/service/open", "p99_ms"),
        Quantity("compact/service/open", "p50_ms"),
        3,
        at_most=True,
    ),
    *(
        Wanted(
            f"{label}: start to first answer / import tensorflow",
            Quantity(f"{label}/start", "seconds"),
            Quantity("tensorflow/import", "seconds"),
            0.7,
            at_most=True,
        )
        for label in ("compact", "inception")
    ),
    *(
        Wanted(
            f"{label}: peak resident memory of all the service's processes, MB",
            Quantity(f"{label}/memory", "rss_mb"),
            None,
            limit,
            at_most=True,
        )
        for label, limit in (("compact", 450), ("inception", 700))
    ),
    *_FULL,
)

_AGAINST_PEERS = {
    "inception": {"1x64": (3.7, 4.5), "32x1": (3.5, 4.5)},
    "compact": {"1x64": (2.2, 3.0), "32x1": (2.5, 4.0)},
}


def against_peers(label: str) -> tuple[Wanted, ...]:
    """Give what is wanted of the service beside the best peer in each round, for a bundle of some architecture."""
    limits = _AGAINST_PEERS.get(label, {})
    return tuple(
        Wanted(
            f"{label}: service{asked} / best peer, {words}",
            Quantity(f"{label}/service/{load}{form}"),
            Quantity(f"{label}/best peer/{load}"),
            *wanted,
        )
        for load, words in LOADS.items()
        for asked, form, wanted in (
            ("", "", limits.get(load, ())),
            (" asked for pdf, z_mean and flags", "/full", ()),
        )
    )
