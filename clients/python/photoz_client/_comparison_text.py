"""A comparison of two services, laid out for reading."""

from collections.abc import Iterator

from photoz.comparison import Comparison, Verdict
from photoz.metrics import OUTLIER_CUT
from photoz.paired import N_SIGMA, FigurePair
from photoz_client._compare import Report, Side
from photoz_client._output import grid_text


def report_text(report: Report) -> str:
    """Say who was compared, what changes and, in the last line, what to make of it."""
    comparison, tolerance = report.comparison, report.tolerance
    lines = [*_side_lines(report.a, report.b), f"{comparison.n_galaxies:,} galaxies of {report.cutouts}", ""]
    if comparison.identical:
        lines.append("all columns and PDFs are identical, bit for bit")
    else:
        lines += [*_change_lines(comparison), *_flag_lines(comparison)]
    if comparison.scores:
        lines += _score_lines(comparison, tolerance)
    return "\n".join([*lines, "", verdict_line(report.verdict, tolerance)])


def _side_lines(a: Side, b: Side) -> Iterator[str]:
    width = max(len(a.url), len(b.url))
    yield f"A  {a.url:<{width}}  {a.model}, bundle {a.digest[:12]}"
    yield f"B  {b.url:<{width}}  {b.model}, " + (
        "the same bundle" if a.digest == b.digest else f"bundle {b.digest[:12]}"
    )
    if a.grid != b.grid:
        yield f"their grids differ, A: {grid_text(a.grid)}; B: {grid_text(b.grid)}; PDFs are compared by their CDFs"


def _change_lines(comparison: Comparison) -> Iterator[str]:
    z, pdfs = comparison.z_mean, comparison.pdfs
    n_moved = round(z.moved * comparison.n_galaxies)
    yield "z_mean, (z_B - z_A) / (1 + z_A)"
    yield f"  median {z.median:+.5f}, sigma_mad {z.sigma_mad:.5f}, farthest {z.largest:+.5f}"
    yield f"  moved by more than {OUTLIER_CUT:g}: {n_moved:,} galaxies ({100 * z.moved:.2f} %)"
    yield "PDFs, int (F_B - F_A)^2 dz"
    yield f"  median {pdfs.median:.2g}, 95 % below {pdfs.p95:.2g}, largest {pdfs.largest:.2g}"
    yield f"  if A's were the truth, B's CRPS would be {100 * pdfs.crps_loss:.2f} % higher"


def _flag_lines(comparison: Comparison) -> Iterator[str]:
    changes = comparison.flags
    if not changes:
        yield "flags, all the same"
        return
    yield f"flags, changed for {100 * comparison.flags_changed:.2f} % of the galaxies"
    width = max(map(len, changes))
    for name, change in changes.items():
        yield f"  {name:<{width}}  {change.gained:>6,} gained  {change.lost:>6,} lost"


def _score_lines(comparison: Comparison, tolerance: float) -> Iterator[str]:
    left_out = comparison.n_galaxies - comparison.n_scored
    aside = f"; {left_out:,} left out, z_spec not on the grid" if left_out else ""
    yield f"scores of the {comparison.n_scored:,} galaxies with z_spec{aside}"
    yield f"  {'':16}  {'A':>8}{'':11}{'B':>8}{'':11}{'B worse by':>9}{'':9}counts from"
    for name, pair in comparison.scores.items():
        figures = "  ".join(f"{score.value:8.4f} ± {score.error:.4f}" for score in (pair.a, pair.b))
        worsening = f"{pair.worsening.value:9.5f} ± {pair.worsening.error:.5f}"
        threshold = pair.threshold(tolerance)
        yield f"  {name:<16}  {figures}  {worsening}  {threshold:.5f}  {_mark(pair, tolerance)}".rstrip()


def _mark(pair: FigurePair, tolerance: float) -> str:
    return "worse" if pair.is_worse(tolerance) else "better" if pair.is_better(tolerance) else ""


def verdict_line(verdict: Verdict, tolerance: float) -> str:
    """Say in one line whether B may take the place of A, and what speaks against it."""
    if verdict.word == "identical":
        return "verdict: identical"
    allowed = f"tolerance {tolerance:g}" + (f" and {N_SIGMA:g} sigma" if verdict.by == "scores" else "")
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    words = {"no worse": "B is no worse", "worse": "B is worse", "agree": "they agree", "differ": "they differ"}
    return f"verdict: {words[verdict.word]}{reasons} ({allowed})"
