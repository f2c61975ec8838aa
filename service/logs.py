"""The log: a line of JSON for each event, with the id of the request that it belongs to; or text, for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from service.edge.visit import CURRENT, Visit
from service.machine import available_memory
from service.settings import MIB, Settings

logger = logging.getLogger("bentoml.photoz")

# Loggers that BentoML gives handlers of their own (bentoml/_internal/log.py); the rest goes through the root.
OWNERS = ("", "bentoml", "uvicorn.error", "circus")

# What a line may say beside its message.
FIELDS = "photoz"


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if visit := CURRENT.get():
            line["request_id"] = visit.id
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Writes a record for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Write its first line."""
        visit = CURRENT.get()
        text = super().formatMessage(record)
        return f"{text} (request {visit.id})" if visit else text


class _WithoutGone(logging.Filter):
    """Leaves out what uvicorn says of callers who have gone: `ASGI callable returned without ...`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ASGI callable returned without")


def configure(log_format: str) -> None:
    """Let everything that this process logs go to stderr in one format.

    Parameters
    ----------
    log_format : str
        "json" or "text".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    uvicorns = logging.getLogger("uvicorn.error")
    uvicorns.setLevel(logging.ERROR)  # it warns of every connection that talks nonsense
    uvicorns.addFilter(_WithoutGone())
    for name in OWNERS:
        owner = logging.getLogger(name)
        owner.handlers = [handler]
        owner.propagate = False


def note_start(model: str, settings: Settings, n_keys: int | None) -> None:
    """Say what is served and with what, and warn if that cannot go well.

    Parameters
    ----------
    model : str
        Name and version.
    settings : Settings
        With the engine that was chosen.
    n_keys : int or None
        How many keys open the service; None if it asks for none.
    """
    keys = "no key is asked for" if n_keys is None else f"{n_keys} keys open it"
    words = (model, settings.engine, settings.threads, settings.limits.memory / MIB, keys)
    logger.info("serving %s by %s, threads: %d, memory for bodies: %.0f MiB, %s", *words)
    needed, there = settings.limits.expected_memory, available_memory()
    if needed > there:
        advice = "the system may end the worker at any time; docs/operations.md#size"
        logger.warning("there are %.2f GB of memory, %.2f may be needed: %s", there / 1e9, needed / 1e9, advice)
    if n_keys == 0:
        logger.warning("%s holds no key: nobody gets in", settings.keys_file)


def note_visit(visit: Visit) -> None:
    """Write the line of a request that has ended."""
    fields = {
        "method": visit.method,
        "path": visit.path,
        "status": visit.status,
        "seconds": round(visit.seconds, 6),
        "rows": visit.rows,
        "received": visit.received,
        **({"key": visit.key} if visit.key else {}),
    }
    words = (visit.method, visit.path, visit.status, 1e3 * visit.seconds)
    logger.info("%s %r %d %.1f ms", *words, extra={FIELDS: fields})
