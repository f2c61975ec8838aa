"""Estimates and metrics as HTML for notebooks: colours of the page, styles inline, no scripts."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from photoz.estimates import Estimates
from photoz.flags import FLAG_MEANINGS, flag_names
from photoz.grid import FloatArray
from photoz.metrics import Score

SHOWN = 10  # rows; of a longer table the first and the last five

# Size of the drawing of a PDF in pixels, and its largest number of bins: more are joined.
WIDTH, HEIGHT, MAX_BINS = 160, 24, 200

_LEFT, _RIGHT = "text-align:left", "text-align:right;font-variant-numeric:tabular-nums"
_NAME = f"{_LEFT};max-width:16em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"


def estimates_html(estimates: Estimates, caption: str) -> str:
    """Return a table of estimates with drawings of the PDFs, if there are any, and the meaning of the flags."""
    heads = [("object_id", _LEFT), ("z_mean", _RIGHT), ("68 %", _RIGHT), ("odds", _RIGHT), ("flags", _LEFT)]
    if estimates.pdf is not None:
        heads.append(("p(z)", _LEFT))
    n, half = len(estimates), SHOWN // 2
    is_long = n > SHOWN
    rows = [_estimate_cells(estimates, i) for i in ([*range(half), *range(n - half, n)] if is_long else range(n))]
    if is_long:
        rows.insert(half, ["…"] * len(heads))
    return _table(caption, heads, rows) + _flag_notes(estimates)


def scores_html(scores: Mapping[str, Score], caption: str) -> str:
    """Return a table of metrics with their errors."""
    rows = [[escape(name), f"{score.value:.4f}", f"± {score.error:.4f}"] for name, score in scores.items()]
    return _table(caption, [("metric", _LEFT), ("value", _RIGHT), ("error", _RIGHT)], rows)


def _estimate_cells(estimates: Estimates, i: int) -> list[str]:
    name = escape(str(estimates.object_id[i]))
    interval = f"{estimates.z_lo68[i]:.4f} to {estimates.z_hi68[i]:.4f}"
    flags = flag_names(int(estimates.flags[i])).replace("|", "<br>")
    cells = [name, f"{estimates.z_mean[i]:.4f}", interval, f"{estimates.odds[i]:.3f}", flags]
    return cells if estimates.pdf is None else [*cells, _drawing(estimates.pdf[i])]


def _flag_notes(estimates: Estimates) -> str:
    """Return the meaning of each flag that is set, and how many galaxies have it."""
    counts = {flag: int(((estimates.flags & int(flag)) != 0).sum()) for flag in FLAG_MEANINGS}
    notes = [f"{flag.name} ({counts[flag]:,}): {escape(FLAG_MEANINGS[flag])}" for flag in FLAG_MEANINGS if counts[flag]]
    return f'<p style="font-size:0.9em">{"<br>".join(notes)}</p>' if notes else ""


def _drawing(masses: FloatArray) -> str:
    """Return a PDF, (n_bins,), as a curve over the whole grid, scaled to its highest bin."""
    step = -(-len(masses) // MAX_BINS)
    heights = np.add.reduceat(masses, range(0, len(masses), step))
    x = WIDTH * (np.arange(len(heights)) + 0.5) / len(heights)
    y = HEIGHT * (1.0 - heights / max(heights.max(), np.finfo(float).tiny))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    curve = f'<polygon points="0,{HEIGHT} {points} {WIDTH},{HEIGHT}" fill="currentColor" fill-opacity="0.35"'
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 -1 {WIDTH} {HEIGHT + 2}"'
    return f'<svg {size} role="img" aria-label="p(z)">{curve} stroke="currentColor"/></svg>'


def _table(caption: str, heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML, `heads` the titles and styles of the columns."""
    styles = [_NAME if title == "object_id" else style for title, style in heads]
    lines = [
        "<tr>" + "".join(f'<td style="{style}">{cell}</td>' for style, cell in zip(styles, row, strict=True)) + "</tr>"
        for row in rows
    ]
    head = "".join(f'<th style="{style}">{title}</th>' for title, style in heads)
    title = f'<caption style="caption-side:top;{_LEFT};white-space:nowrap;color:inherit">{escape(caption)}</caption>'
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
