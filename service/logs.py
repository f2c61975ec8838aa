"""The log on stderr: a line of JSON for each event, with the id of its request; or text, for people."""

import json
import logging
import queue
import sys
import time
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from photoz.errors import printable, shortened
from service.request import CURRENT_REQUEST, Request
from service.resources import available_memory
from service.settings import MIB, Settings

logger = logging.getLogger("bentoml.photoz")

# Loggers of BentoML (bentoml/_internal/log.py) and granian with their own handlers; others propagate to the root.
LOGGERS = ("", "bentoml", "uvicorn.error", "_granian")

MAX_WAITING = 10_000  # lines that wait to be written

MAX_TEXT = 500  # characters of a message, a path or a method: clients choose some of them

# Fields of a line beside its message: an attribute of the record.
FIELDS = "photoz"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format it."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shortened(record.getMessage(), MAX_TEXT),
        }
        if request := CURRENT_REQUEST.get():
            line["request_id"] = request.id
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format its first line."""
        request = CURRENT_REQUEST.get()
        text = shortened(printable(super().formatMessage(record)), MAX_TEXT)
        return f"{text} (request {request.id})" if request else text


class DroppingHandler(QueueHandler):
    """Writes in a thread: when whoever reads the log does not, lines are dropped, and the service goes on."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._waiting = queue.Queue[logging.LogRecord](MAX_WAITING)
        super().__init__(self._waiting)
        self.setFormatter(formatter)
        self.dropped = 0
        self._stream = logging.StreamHandler(sys.stderr)
        self._listener = QueueListener(self._waiting, self._stream)
        self._listener.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, which has been formatted."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """Wait until all is written, a second at most."""
        end = time.monotonic() + 1.0
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)


_handler: DroppingHandler | None = None


def configure(log_format: str) -> None:
    """Send everything that this process logs to stderr, as "json" or "text"."""
    global _handler
    _handler = DroppingHandler(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in LOGGERS:
        owner = logging.getLogger(name)
        owner.handlers = [_handler]
        owner.propagate = False
    logging.getLogger("bentoml").setLevel(logging.INFO)
    logging.captureWarnings(True)
    # They report every start, and every client that sends garbage.
    for name in (
        "_granian",
        "uvicorn.error",
        "opentelemetry.attributes",
        "opentelemetry.baggage",
        "opentelemetry.trace",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)


def dropped_lines() -> int:
    """Return how many lines of the log were dropped."""
    return _handler.dropped if _handler else 0


def log_start(model: str, settings: Settings, n_keys: int | None) -> None:
    """Log which model is served and how, and warn of what cannot go well; `n_keys` is None if no API key is needed."""
    keys = "no API key needed" if n_keys is None else f"{n_keys} API keys"
    words = (model, settings.engine, settings.threads, settings.max_memory_bytes / MIB, keys)
    logger.info("serving %s with %s, threads: %d, memory for bodies: %.0f MiB, %s", *words)
    needed, there = settings.documented_memory_bytes, available_memory()
    if needed > there:
        advice = "the system may kill the worker at any time (docs/operations.md#size)"
        logger.warning("%.2f GB of memory are available, up to %.2f GB needed: %s", there / 1e9, needed / 1e9, advice)
    for name, known in settings.misspelt_variables().items():
        logger.warning("%s is not a setting and is ignored; did you mean %s?", name, known)
    if n_keys == 0:
        logger.warning("%s holds no key: all requests are refused", settings.api_keys_file)


def log_request(request: Request) -> None:
    """Log a request that has ended."""
    seconds = time.perf_counter() - request.begin
    fields = {
        "method": shortened(request.method, MAX_TEXT),
        "path": shortened(request.path, MAX_TEXT),
        "status": request.status,
        "seconds": round(seconds, 6),
        "rows": request.rows,
        "received_bytes": request.received_bytes,
        **({"key": request.api_key} if request.api_key else {}),
    }
    words = (fields["method"], fields["path"], request.status, 1e3 * seconds)
    logger.info("%s %r %d %.1f ms", *words, extra={FIELDS: fields})
