"""Plots from arrays: each function returns a matplotlib Figure one or two columns wide, and changes no global state."""

from photoz.plots.dependence import residuals, shown_range
from photoz.plots.panels import ID_LENGTH, interval_panels, pdf_panels
from photoz.plots.pit_coverage import coverage, pit_histogram, pit_qq
from photoz.plots.redshifts import scatter, stacked, tomographic
from photoz.plots.style import render
from photoz.plots.training_size import learning_curve

__all__ = [
    "ID_LENGTH",
    "coverage",
    "interval_panels",
    "learning_curve",
    "pdf_panels",
    "pit_histogram",
    "pit_qq",
    "render",
    "residuals",
    "scatter",
    "shown_range",
    "stacked",
    "tomographic",
]
