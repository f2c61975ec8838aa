"""`photoz compare`: send the same cutouts to two services and compare their predictions."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click
import numpy as np
from click.exceptions import Exit
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from photoz.cli.command import Command
from photoz.cli.options import json_option
from photoz.cli.printing import show, show_json
from photoz.errors import InvalidInput, PhotozError, counted
from photoz.grid import RedshiftGrid
from photoz.metrics import OUTLIER_CUT
from photoz_client._cli_options import INPUT_FILE, CutoutOptions, cutout_options, key_option
from photoz_client._cli_text import grid_text, image_text
from photoz_client._client import PhotozClient
from photoz_client._errors import PhotozClientError, UnexpectedResponse
from photoz_client._requests import redact_url
from photoz_client.comparison import N_SIGMA, TOLERANCE, Basis, Comparison, Verdict, compare, judge

# Exit codes, as of `cmp` and `diff`.
DIFFERS, NOT_COMPARED = 1, 2


@contextmanager
def _failures_exit_with_2() -> Iterator[None]:
    """Exit with code 2 after any failure, because exit code 1 is a result of the comparison."""
    try:
        yield
    except (PhotozError, OSError) as error:
        show(f"Error: could not compare: {' '.join(str(error).split())}", err=True)
        raise Exit(NOT_COMPARED) from None
    except (click.ClickException, Exit):
        raise
    except Exception:  # a bug, for which Python's exit code would be 1
        traceback.print_exc()
        raise Exit(NOT_COMPARED) from None


@dataclass(frozen=True)
class Side:
    """One of the two services: its URL, the name and version of its model, and the bundle's digest and grid."""

    url: str
    model: str
    digest: str
    grid: RedshiftGrid


@dataclass(frozen=True)
class Report:
    """The result, which `photoz compare --json` prints."""

    verdict: Verdict
    tolerance: float
    a: Side
    b: Side
    cutouts: str  # the file, and which split of it
    comparison: Comparison


@click.command(
    "compare",
    cls=Command,
    examples=("photoz compare http://127.0.0.1:3000 http://127.0.0.1:3001 examples/cutouts.npz --by agreement",),
)
@click.argument("url_a")
@click.argument("url_b")
@cutout_options
@key_option
@click.option(
    "--api-key-file-b", "key_file_b", type=INPUT_FILE, help="File that holds the API key of URL_B, if it differs."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    default=TOLERANCE,
    show_default=True,
    help="Change that is accepted: a fraction of the metrics of URL_A, or of the galaxies.",
)
@click.option(
    "--by",
    type=click.Choice(get_args(Basis)),
    help="Judge whether URL_B is worse (the default if there is z_spec) or whether the answers agree.",
)
@json_option
@click.pass_context
@_failures_exit_with_2()
def compare_command(
    context: click.Context,
    options: CutoutOptions,
    url_a: str,
    url_b: str,
    key_file: Path | None,
    key_file_b: Path | None,
    tolerance: float,
    by: Basis | None,
    as_json: bool,
) -> None:
    """Compare the predictions of two services.

    Use it before the service at URL_B replaces the service at URL_A. Sends CUTOUTS, as for predict, to both.
    Prints how z_mean, PDFs and flags differ and, with a column z_spec, which metrics are worse. The exit code is 0 if
    URL_B is no worse or agrees, 1 if it is worse or differs, and 2 if the two could not be compared.
    """
    with options.client(url_a, key_file) as client_a, options.client(url_b, key_file_b or key_file) as client_b:
        report = _compare_services(options, (url_a, url_b), (client_a, client_b), tolerance, by)
    if as_json:
        show_json(TypeAdapter(Report).dump_json(report, indent=2))
    else:
        show(*_report_text(report))
    context.exit(0 if report.verdict.passes else DIFFERS)


def _compare_services(
    options: CutoutOptions, urls: Sequence[str], clients: Sequence[PhotozClient], tolerance: float, by: Basis | None
) -> Report:
    """Send the cutouts to services A and B and compare the predictions; `tolerance` and `by` are those of `judge`."""
    cards, sides = [], []
    for name, url, client in zip("AB", map(redact_url, urls), clients, strict=True):
        with _service_named(name, url):
            card = client.model()
        cards.append(card)
        sides.append(Side(url, f"{card.name} {card.version}", card.digest, card.grid))
    a, b = sides
    image_a, image_b = (card.image for card in cards)
    if image_a != image_b:
        images = f"A: {image_text(image_a)}; B: {image_text(image_b)}"
        raise InvalidInput(f"the services take different cutouts; {images}")
    with options.open(cards[0]) as cutouts:
        z_spec = cutouts.column("z_spec") if by == "scores" else cutouts.columns.get("z_spec")
        if by == "agreement" and z_spec is not None and not np.any(a.grid.contains(z_spec) & b.grid.contains(z_spec)):
            z_spec = None  # scores are optional here
        predict_options = options.predict_options(cutouts, pdf=True)
        predictions = []
        for name, side, client in zip("AB", sides, clients, strict=True):
            with _service_named(name, side.url):
                prediction = client.predict(cutouts.images, **predict_options)
                if prediction.model != side.model:
                    changed = f"from {side.model} to {prediction.model}"
                    raise UnexpectedResponse(f"the model changed in the meantime, {changed}")
            predictions.append(prediction)
    comparison = compare(predictions[0], predictions[1], a.grid, b.grid, z_spec)
    file = str(options.path) if options.split is None else f"{options.path}, split {options.split}"
    return Report(judge(comparison, tolerance, by), tolerance, a, b, file, comparison)


@contextmanager
def _service_named(name: str, url: str) -> Iterator[None]:
    """Put the service's name, A or B, and its URL before the messages of its errors."""
    try:
        yield
    except PhotozClientError as error:
        where = "" if url in str(error) else f" at {url}"
        raise PhotozClientError(f"{name}{where}: {error}") from error


def _report_text(report: Report) -> list[str]:
    """Format the two services, the differences and, in the last line, the verdict."""
    comparison, tolerance = report.comparison, report.tolerance
    lines = [
        *_side_lines(report.a, report.b),
        f"{counted(comparison.n_galaxies, 'galaxy')} of {report.cutouts}",
        "",
    ]
    if comparison.identical:
        lines.append("all columns and PDFs are identical, bit for bit")
    else:
        lines += [*_change_lines(comparison), *_flag_lines(comparison)]
    if comparison.scores:
        lines += _score_lines(comparison, tolerance)
    return [*lines, "", _verdict_line(report.verdict, tolerance)]


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
    yield f"  moved by more than {OUTLIER_CUT:g}: {counted(n_moved, 'galaxy')} ({100 * z.moved:.2f} %)"
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
    note = f"; {left_out:,} left out, z_spec not on the grid" if left_out else ""
    yield f"scores of the {comparison.n_scored:,} galaxies with z_spec{note}"
    yield f"  {'':16}  {'A':>8}{'':11}{'B':>8}{'':11}{'B worse by':>9}{'':9}counts from"
    for name, pair in comparison.scores.items():
        scores = "  ".join(f"{score.value:8.4f} ± {score.error:.4f}" for score in (pair.a, pair.b))
        worsening = f"{pair.worsening.value:9.5f} ± {pair.worsening.error:.5f}"
        threshold = pair.threshold(tolerance)
        mark = "worse" if pair.is_worse(tolerance) else "better" if pair.is_better(tolerance) else ""
        yield f"  {name:<16}  {scores}  {worsening}  {threshold:.5f}  {mark}".rstrip()


def _verdict_line(verdict: Verdict, tolerance: float) -> str:
    if verdict.word == "identical":
        return "verdict: identical"
    allowed = f"tolerance {tolerance:g}" + (f" and {N_SIGMA:g} sigma" if verdict.by == "scores" else "")
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    subject = "B is" if verdict.by == "scores" else "they"
    return f"verdict: {subject} {verdict.word}{reasons} ({allowed})"
