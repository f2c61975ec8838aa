"""What the commands of long runs do on a terminal: show progress, and stop at SIGTERM."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from photoz.cli.printing import show

# Exit code after SIGTERM, as in a shell: 128 + 15.
TERMINATED = 143

# Seconds between two lines if standard error is not a terminal.
LINE_EVERY = 30.0


def stop_at_sigterm(how_to_resume: str) -> None:
    """Exit at SIGTERM as after an exception, with a line that says how to resume."""

    def stop(*_: object) -> None:
        show(f"stopped by SIGTERM; {how_to_resume}", err=True)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Yield a function that advances a bar on a terminal, or prints a line now and then; `unit` is in the plural."""
    if sys.stderr.isatty():
        with tqdm(total=total, unit=unit) as bar:
            yield bar.update
        return
    start = printed = time.monotonic()
    n = 0

    def advance(more: int) -> None:
        nonlocal n, printed
        n += more
        if (now := time.monotonic()) - printed >= LINE_EVERY:
            printed, rate = now, n / (now - start)
            left = f", {(total - n) / rate:,.0f} s left" if rate and total else ""
            show(f"{n:,} of {total:,} {unit}, {rate:,.1f} {unit}/s{left}", err=True)

    yield advance
