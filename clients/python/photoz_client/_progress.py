"""The progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

# False is none, True a bar on standard error if that is a terminal; a function is called with the number of rows of
# each part that is done with, as the `update` of a bar of tqdm wants it.
Progress = bool | Callable[[int], object]


@contextmanager
def shown(progress: Progress, n: int) -> Iterator[Callable[[int], object]]:
    """Show how far a prediction of n rows is.

    Parameters
    ----------
    progress : bool or callable
        See `Progress`.
    n : int
        Number of rows.

    Yields
    ------
    callable
        To be told of each number of rows that are done with.
    """
    if callable(progress):
        yield progress
    elif progress and sys.stderr and sys.stderr.isatty():
        with click.progressbar(length=n, label="cutouts", show_pos=True, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield lambda n_rows: None
