"""The progress bar of a prediction."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

import click

# False shows nothing. True shows a bar in a notebook, or if standard error is a terminal. A function is called with the
# number of rows of each finished part, like the `update` of a tqdm bar.
Progress = bool | Callable[[int], object]


@contextmanager
def progress_bar(progress: Progress, n: int) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of rows of each finished part, of n rows in all."""
    if callable(progress):
        yield progress
    elif progress and _in_notebook():
        yield _notebook_bar(n)
    elif progress and sys.stderr and sys.stderr.isatty():
        with click.progressbar(length=n, label="cutouts", show_pos=True, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield lambda n_rows: None


def _in_notebook() -> bool:
    """Return whether this is the kernel of a notebook, which shows HTML."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


def _notebook_bar(n: int) -> Callable[[int], object]:
    """Show a bar with IPython alone, which every kernel has; a saved notebook shows its last state."""
    ipython = import_module("IPython.display")
    done = 0

    def bar() -> object:
        return ipython.HTML(f'<progress max="{n}" value="{done}"></progress> {done:,} of {n:,} cutouts')

    handle = ipython.display(bar(), display_id=True)

    def update(n_rows: int) -> None:
        nonlocal done
        done += n_rows
        handle.update(bar())

    return update
