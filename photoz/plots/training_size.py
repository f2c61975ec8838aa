"""Plot of metrics against the number of training galaxies."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from photoz.metrics import Score
from photoz.plots.style import BLUE, COLUMN, FONT, GREEN, GREY, RED, SMALL, Figure, label_axes

# Metrics and their labels, in the order of the panels.
SHOWN = {"sigma_mad": "$σ_\\mathrm{MAD}$", "crps": "CRPS"}

# Colours and dashes of the baselines; after the last they repeat.
LINES = (
    (RED, "--"),
    (GREEN, "-."),
    (GREY, ":"),
    ("#CC79A7", (0, (5, 1))),
    ("#E69F00", (0, (1, 2, 4, 2))),
    ("black", (0, (3, 1, 1, 1, 1, 1))),
)


def learning_curve(
    n_train: Sequence[int],
    scores: Sequence[Mapping[str, Score]],
    baselines: Mapping[str, Mapping[str, Score]] | None = None,
) -> Figure:
    """sigma_mad and CRPS of m models, on the same test galaxies, against their numbers of training galaxies.

    Baselines, other methods by name on the same galaxies, are horizontal lines; any of their metrics may be missing.
    """
    lines = dict(baselines or {})
    figure = Figure(figsize=(COLUMN, 3.4 + 0.13 * len(lines)), layout="constrained")
    panels = figure.subplots(len(SHOWN), 1, sharex=True)
    for axes, (name, label) in zip(panels, SHOWN.items(), strict=True):
        for number, (method, baseline) in enumerate(lines.items()):
            if name in baseline:
                colour, dashes = LINES[number % len(LINES)]
                axes.axhline(baseline[name].value, color=colour, linestyle=dashes, linewidth=0.9, label=method)
        _draw_curve(axes, n_train, [model[name] for model in scores])
        label_axes(axes, "", label)
    panels[-1].set_xlabel("training galaxies", fontsize=FONT)
    figure.align_ylabels(list(panels))
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", fontsize=SMALL, frameon=False)
    return figure


def _draw_curve(axes: Axes, n_train: Sequence[int], scores: Sequence[Score]) -> None:
    values, errors = [score.value for score in scores], [score.error for score in scores]
    axes.errorbar(
        n_train, values, errors, fmt="o-", color=BLUE, markersize=3.0, linewidth=1.0, capsize=1.5, label="this network"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(n_train))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
