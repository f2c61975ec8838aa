"""What is checked and set before a worker starts, by any server."""

import os
import re
import signal
from pathlib import Path

from photoz.errors import InvalidInput
from photoz.inference.preflight import preflight
from photoz.model.bundle import ModelBundle
from photoz.validation import unpacked_limit
from service import logs
from service.api_keys import read_keys
from service.settings import ALLOCATOR, ONE_THREAD, Settings
from service.tracing import tracing_options

CANNOT_START = 3  # exit status of a worker that cannot start

# Tells a worker to start graceful shutdown: it is not ready any more, but still takes requests.
DRAIN_SIGNAL = signal.SIGUSR1


def bundle_path(bundle: Path) -> Path:
    """Return the folder of a bundle that is given as such, or as a tag; raises `InvalidInput` for an unknown tag."""
    if bundle.is_dir() or not re.fullmatch(r"[\w.-]+:[\w.-]+", str(bundle)):
        return bundle
    from service.store import find  # imports BentoML, which a folder does not need

    return find(str(bundle))


def worker_environment() -> dict[str, str]:
    """Check settings, keys and bundle; return a worker's environment. Raises `InvalidInput` or `InvalidBundle`."""
    settings = Settings.from_environment()
    logs.configure(settings.log_format)
    if settings.api_keys_file:
        read_keys(settings.api_keys_file)
    tracing_options()
    bundle = bundle_path(settings.bundle)
    engine = preflight(bundle, settings.engine, settings.threads)
    card = ModelBundle.load(bundle).card
    if settings.sky is not None:
        from service.sky import check_options  # takes 9 MB, which only the worker needs otherwise

        check_options(settings.sky, card.image)
    needed = 4 * unpacked_limit(card, 1)
    if settings.max_memory_bytes < needed:
        raise InvalidInput(
            f"PHOTOZ_MAX_MEMORY_BYTES={settings.max_memory_bytes} cannot be used: one cutout of this model needs "
            f"{needed:,} bytes"
        )
    # An absolute path: a worker may run in another folder, and a tag may name another bundle when one is restarted.
    chosen = {"PHOTOZ_BUNDLE": str(bundle.resolve()), "PHOTOZ_ENGINE": engine}
    return ALLOCATOR | dict(os.environ) | ONE_THREAD | chosen
