"""What the operator can set, read from the environment when a worker starts."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from photoz.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[1]

ENGINES = ("auto", "openvino", "openvino-int8", "openvino-bf16", "openvino-f32", "keras")

# For numpy, in a worker and in what it starts: one thread is enough for the arithmetic around the network, which has
# threads of its own (PHOTOZ_THREADS).
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Settings of one worker.

    Parameters
    ----------
    bundle : Path
        The model bundle (PHOTOZ_BUNDLE).
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
    """

    bundle: Path = ROOT / "models" / "photoz"
    engine: str = "auto"
    threads: int = 1
    max_rows: int = 4096
    calibration: bool = True
    draw_timeout: float = 60.0
    access_log: bool = False

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

        def read(name: str, default: T, parse: Callable[[str], T]) -> T:
            text = environment.get(name, "").strip()
            try:
                return parse(text) if text else default
            except ValueError as error:
                raise InvalidInput(f"{name}={text} cannot be used: {error}") from error

        return cls(
            bundle=read("PHOTOZ_BUNDLE", cls.bundle, Path),
            engine=read("PHOTOZ_ENGINE", cls.engine, _engine),
            threads=read("PHOTOZ_THREADS", available_cpus(), _positive_int),
            max_rows=read("PHOTOZ_MAX_ROWS", cls.max_rows, _positive_int),
            calibration=read("PHOTOZ_CALIBRATION", cls.calibration, _switch),
            draw_timeout=read("PHOTOZ_DRAW_TIMEOUT", cls.draw_timeout, _positive_float),
            access_log=read("PHOTOZ_ACCESS_LOG", cls.access_log, _switch),
        )


def access_log(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether each request gets a line in the log (PHOTOZ_ACCESS_LOG): BentoML wants to know before it starts."""
    return environment.get("PHOTOZ_ACCESS_LOG", "").strip() == "on"


def available_cpus() -> int:
    """Return the number of CPUs that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise ValueError(f"expected one of {', '.join(ENGINES)}")
    return text


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("expected on or off")
    return text == "on"


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("expected 1 or more")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("expected a number above 0")
    return value
