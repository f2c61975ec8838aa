"""What the operator can set, read from the environment when a worker starts."""

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from photoz.errors import InvalidInput
from service.machine import available_cpus, available_memory

ROOT = Path(__file__).resolve().parents[1]

ENGINES = ("auto", "openvino", "openvino-int8", "openvino-bf16", "openvino-f32", "keras")

# For numpy, in a worker and in what it starts: one thread is enough for the arithmetic around the network, which has
# threads of its own (PHOTOZ_THREADS).
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# For the allocator of a worker (glibc's), where the operator has not chosen: large bodies come and go, and by itself it
# keeps what they left behind, in a heap for each thread (docs/decisions.md).
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}

T = TypeVar("T")


MIB = 1024 * 1024

# What one instance takes beside the bodies, with the network that ships: half a GB after half an hour of load.
RESIDENT = 550_000_000

# The exit status of a worker that cannot start; uvicorn's for it.
CANNOT_START = 3


@dataclass(frozen=True)
class Limits:
    """What one request may take, and all of them together.

    Parameters
    ----------
    memory : int
        Bytes that the bodies of all requests may hold together (PHOTOZ_MAX_MEMORY); without it, an eighth of what this
        process may have, between 64 MiB and 1 GiB. Decoding and predicting take up to as much again beside them.
    body : int
        Bytes of one body, and of what it unpacks to (PHOTOZ_MAX_BODY); without it, half of `memory`.
    in_flight : int
        Requests that have arrived and are not answered (PHOTOZ_MAX_IN_FLIGHT).
    timeout : float
        Seconds from there to the beginning of the answer (PHOTOZ_TIMEOUT).
    upload_timeout : float
        Seconds that a body may take to arrive, beyond what it takes at 64 kB/s (PHOTOZ_UPLOAD_TIMEOUT).
    header_timeout : float
        Seconds that the head of a request may take (PHOTOZ_HEADER_TIMEOUT).
    headers : int
        Bytes of the head of a request (PHOTOZ_MAX_HEADERS).
    """

    memory: int = 128 * MIB
    body: int = 64 * MIB
    in_flight: int = 128
    timeout: float = 300.0
    upload_timeout: float = 30.0
    header_timeout: float = 10.0
    headers: int = 32 * 1024

    @property
    def expected_memory(self) -> int:
        """Bytes that an instance should get by with, whatever is asked of it."""
        return RESIDENT + 2 * self.memory

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Read the limits; raises as `Settings.from_environment` does."""
        read = _Reader(environment)
        memory = read("PHOTOZ_MAX_MEMORY", min(max(available_memory() // 8, 64 * MIB), 1024 * MIB), _positive_int)
        body = read("PHOTOZ_MAX_BODY", memory // 2, _positive_int)
        if body > memory:
            raise InvalidInput(f"PHOTOZ_MAX_BODY={body} cannot be used: expected PHOTOZ_MAX_MEMORY, {memory}, or less")
        return cls(
            memory=memory,
            body=body,
            in_flight=read("PHOTOZ_MAX_IN_FLIGHT", cls.in_flight, _positive_int),
            timeout=read("PHOTOZ_TIMEOUT", cls.timeout, _positive_float),
            upload_timeout=read("PHOTOZ_UPLOAD_TIMEOUT", cls.upload_timeout, _positive_float),
            header_timeout=read("PHOTOZ_HEADER_TIMEOUT", cls.header_timeout, _positive_float),
            headers=read("PHOTOZ_MAX_HEADERS", cls.headers, _positive_int),
        )


@dataclass(frozen=True)
class Settings:
    """Settings of one worker.

    Parameters
    ----------
    bundle : Path
        The model bundle (PHOTOZ_BUNDLE): a folder, or the tag of one in BentoML's model store.
    engine : str
        One of `ENGINES` (PHOTOZ_ENGINE).
    threads : int
        Threads of the network (PHOTOZ_THREADS); without it, the CPUs that this process may use.
    max_rows : int
        Galaxies that one request may carry (PHOTOZ_MAX_ROWS).
    calibration : bool
        Whether PDFs are recalibrated as the bundle says (PHOTOZ_CALIBRATION, "on" or "off").
    draw_timeout : float
        Seconds that scores, a plot or a report may take (PHOTOZ_DRAW_TIMEOUT).
    access_log : bool
        Whether each request gets a line in the log (PHOTOZ_ACCESS_LOG, "on" or "off").
    log_format : str
        "json" or "text" (PHOTOZ_LOG_FORMAT); without it, text on a terminal.
    keys_file : Path or None
        The keys that open the service (PHOTOZ_API_KEYS_FILE); without it, it is open.
    drain : float
        Seconds between the first sign of the end and the last new connection (PHOTOZ_DRAIN).
    limits : Limits
        What requests may take.
    """

    bundle: Path = ROOT / "models" / "photoz"
    engine: str = "auto"
    threads: int = 1
    max_rows: int = 4096
    calibration: bool = True
    draw_timeout: float = 60.0
    access_log: bool = False
    log_format: str = "text"
    keys_file: Path | None = None
    drain: float = 1.0
    limits: Limits = Limits()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings.

        Parameters
        ----------
        environment : mapping of str to str
            Such as `os.environ`.

        Returns
        -------
        Settings
            With the defaults where a variable is not set.

        Raises
        ------
        InvalidInput
            Naming the variable that cannot be used.
        """
        read = _Reader(environment)
        return cls(
            bundle=read("PHOTOZ_BUNDLE", cls.bundle, bundle_path),
            engine=read("PHOTOZ_ENGINE", cls.engine, _engine),
            threads=read("PHOTOZ_THREADS", available_cpus(), _positive_int),
            max_rows=read("PHOTOZ_MAX_ROWS", cls.max_rows, _positive_int),
            calibration=read("PHOTOZ_CALIBRATION", cls.calibration, _switch),
            draw_timeout=read("PHOTOZ_DRAW_TIMEOUT", cls.draw_timeout, _positive_float),
            access_log=read("PHOTOZ_ACCESS_LOG", cls.access_log, _switch),
            log_format=read("PHOTOZ_LOG_FORMAT", "text" if sys.stderr.isatty() else "json", _log_format),
            keys_file=read("PHOTOZ_API_KEYS_FILE", cls.keys_file, Path),
            drain=read("PHOTOZ_DRAIN", cls.drain, _seconds),
            limits=Limits.from_environment(environment),
        )


class _Reader:
    """Reads one variable of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        text = self._environment.get(name, "").strip()
        try:
            return parse(text) if text else default
        except ValueError as error:
            raise InvalidInput(f"{name}={text} cannot be used: {error}") from error


def bundle_path(text: str) -> Path:
    """Return the folder that PHOTOZ_BUNDLE means; raises InvalidInput for the tag of a bundle that is not there."""
    if Path(text).is_dir() or not re.fullmatch(r"[\w.-]+:[\w.-]+", text):
        return Path(text)
    from service.store import find  # whoever has a folder does without BentoML here

    return find(text)


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise ValueError(f"expected one of {', '.join(ENGINES)}")
    return text


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("expected on or off")
    return text == "on"


def _log_format(text: str) -> str:
    if text not in ("json", "text"):
        raise ValueError("expected json or text")
    return text


def _positive_int(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError("expected a whole number, 1 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which is in no range


def _positive_float(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise ValueError("expected a number above 0")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise ValueError("expected a number of seconds, 0 or more")
    return value
