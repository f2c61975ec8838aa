"""The progress bar of a prediction."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

# False shows nothing; True shows a bar if standard error is a terminal; a function is called with the number of rows of
# each finished part, like the `update` of a tqdm bar.
Progress = bool | Callable[[int], object]


@contextmanager
def progress_bar(progress: Progress, n: int) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of rows of each finished part, of n rows in all."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr and sys.stderr.isatty():
        with click.progressbar(length=n, label="cutouts", show_pos=True, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield lambda n_rows: None
