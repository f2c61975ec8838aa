"""What the figures share: sizes, colours, labels, dots or densities, and how a figure becomes a file.

Sizes are those of one or two columns of a journal, colours those of Okabe and Ito (2008), which colour-blind readers
tell apart; what differs by colour differs by line style as well.
"""

import io
from collections.abc import Mapping
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from photoz.grid import FloatArray

COLUMN, PAGE = 3.5, 7.1  # inches: the width of one column and of two
FONT, SMALL = 8.0, 7.0  # points
BLUE, RED, GREEN, GREY = "#0072B2", "#D32F1F", "#009E73", "#7A7A7A"

MANY_POINTS = 500  # beyond which dots hide one another and a density says more

# Nothing that changes from run to run, such as a date, goes into a file.
METADATA: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def render(figure: Figure, format: Literal["png", "svg", "pdf"]) -> bytes:
    """Draw a figure; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        From one of the functions here.
    format : {"png", "svg", "pdf"}
        PNG has 300 dots an inch.

    Returns
    -------
    bytes
        The file.
    """
    buffer = io.BytesIO()
    # Otherwise the identifiers in an SVG are random, and a PDF holds Type 3 fonts, which journals refuse.
    with rc_context({"svg.hashsalt": "photoz", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=format, dpi=300, metadata=METADATA[format])
    return buffer.getvalue()


def draw_points(
    axes: Axes, x: FloatArray, y: FloatArray, extent: tuple[float, float, float, float], colours: str, floor: float
) -> bool:
    """Draw dots, or their density on a logarithmic scale where there are many; tell which."""
    if len(x) <= MANY_POINTS:
        size = 2.5 if len(x) > 50 else 5.0
        axes.plot(x, y, "o", color=BLUE, markersize=size, alpha=0.6, markeredgewidth=0)
        return False
    axes.hexbin(x, y, gridsize=70, extent=extent, bins="log", mincnt=1, vmin=floor, cmap=colours, linewidths=0.1)
    return True


def label_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Write what the axes are, with ticks on all four sides."""
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.tick_params(labelsize=SMALL, direction="in", top=True, right=True)


def note(axes: Axes, text: str, side: Literal["left", "right"] = "left") -> None:
    """Write in the upper corner of a panel."""
    x = 0.03 if side == "left" else 0.97
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(x, 0.97, text, transform=axes.transAxes, ha=side, va="top", fontsize=SMALL, bbox=box)


def three_decimals(value: float) -> str:
    """Write a number with three decimals and a true minus."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0: no "-0.000"
