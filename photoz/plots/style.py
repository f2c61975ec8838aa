"""Style of the plots: sizes, colours and labels; and their rendering to PNG, SVG or PDF.

Sizes fit a journal's column. Colours are from Okabe and Ito (2008), which colour-blind readers can distinguish; lines
differ by style as well as by colour.
"""

import io
from collections.abc import Mapping
from typing import Literal

from matplotlib import figure as matplotlib_figure
from matplotlib import rc_context
from matplotlib.axes import Axes

from photoz.grid import FloatArray

COLUMN = 3.5  # inches: the width of one column
FONT, SMALL = 8.0, 7.0  # points
BLUE, RED, GREEN, GREY = "#0072B2", "#D32F1F", "#009E73", "#7A7A7A"

MANY_POINTS = 500  # more dots would overlap: a density is drawn instead

# Files contain nothing that changes from run to run, such as a date.
METADATA: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Figure(matplotlib_figure.Figure):
    """A figure that notebooks show, although it is not one of pyplot's."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return render(self, "png"), {"width": int(self.bbox.width)}


def render(figure: matplotlib_figure.Figure, format: Literal["png", "svg", "pdf"]) -> bytes:
    """Return a figure as the bytes of a file, PNG at 300 dots per inch; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Otherwise the identifiers in an SVG are random, and a PDF has Type 3 fonts, which journals refuse.
    with rc_context({"svg.hashsalt": "photoz", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=format, dpi=300, metadata=METADATA[format])
    return buffer.getvalue()


def draw_points(
    axes: Axes, x: FloatArray, y: FloatArray, extent: tuple[float, float, float, float], colours: str, floor: float
) -> bool:
    """Draw dots, or their density on a logarithmic scale if there are many; return whether it is a density."""
    if len(x) <= MANY_POINTS:
        size = 2.5 if len(x) > 50 else 5.0
        axes.plot(x, y, "o", color=BLUE, markersize=size, alpha=0.6, markeredgewidth=0)
        return False
    axes.hexbin(x, y, gridsize=70, extent=extent, bins="log", mincnt=1, vmin=floor, cmap=colours, linewidths=0.1)
    return True


def single_panel(xlabel: str, ylabel: str, height: float = 2.85) -> tuple[Figure, Axes]:
    """Return a figure one column wide, with its labelled axes; the height is in inches."""
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    axes = figure.subplots()
    label_axes(axes, xlabel, ylabel)
    return figure, axes


def label_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Label the axes, with ticks on all four sides."""
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.tick_params(labelsize=SMALL, direction="in", top=True, right=True)


def note(axes: Axes, text: str, side: Literal["left", "right"] = "left") -> None:
    """Write text in an upper corner of a panel."""
    x = 0.03 if side == "left" else 0.97
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(x, 0.97, text, transform=axes.transAxes, ha=side, va="top", fontsize=SMALL, bbox=box)


def three_decimals(value: float) -> str:
    """Write a number with three decimals and a true minus."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0: no "-0.000"
