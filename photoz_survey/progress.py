"""How far a long run is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from tqdm import tqdm

# Seconds between two lines where standard error is no terminal.
LINE_EVERY = 30.0


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with numbers of what is done; `unit` is its name in plural."""
    if sys.stderr.isatty():
        with tqdm(total=total, unit=unit) as bar:
            yield bar.update
        return
    began = said = time.monotonic()
    n = 0

    def advance(more: int) -> None:
        nonlocal n, said
        n += more
        if (now := time.monotonic()) - said >= LINE_EVERY:
            said, rate = now, n / (now - began)
            left = f", {(total - n) / rate:,.0f} s left" if rate and total else ""
            click.echo(f"{n:,} of {total:,} {unit}, {rate:,.1f} {unit}/s{left}", err=True)

    yield advance
