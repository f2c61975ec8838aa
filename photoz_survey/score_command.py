"""The command `photoz score`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from photoz.cli.command import Command
from photoz.cli.options import WORKERS, image_options, json_option, parsed_by, quantiles_option
from photoz.cli.printing import show, show_json
from photoz.cpus import available_cpus
from photoz.errors import InvalidDataset, counted
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import ScoreOptions
from photoz_survey.run import Run, estimate_cost, make_plan
from photoz_survey.terminal import progress, stop_at_sigterm
from photoz_survey.workers import score_here, score_on_cluster


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


@click.command(
    cls=Command,
    examples=(
        "photoz score examples/cutouts.npz --bundle models/photoz --pdf float16 -o scored",
        "photoz score examples/cutouts.npz --bundle models/photoz --estimate 1000000",
    ),
)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="The model bundle."
)
@click.option("-o", "--output", help="Folder for the results, path or URL.")
@click.option("--estimate", type=click.IntRange(min=1), metavar="N", help="Only estimate the cost of N such rows.")
@click.option("--resume", is_flag=True, help="Continue a run that was stopped.")
@click.option("--workers", type=click.IntRange(min=1), help=WORKERS)
@click.option("--ray", metavar="ADDRESS", help='Score on this Ray cluster; "auto" is the one of this machine.')
@click.option("--rows-per-part", type=click.IntRange(min=1), default=8192, show_default=True, help="Rows of each file.")
@click.option(
    "--pdf",
    type=click.Choice(["float16", "float32"]),
    is_flag=False,
    flag_value="float32",
    help="Write the PDFs too, as float32, or as float16 in half of the bytes.",
)
@quantiles_option
@click.option(
    "--columns",
    default="",
    callback=parsed_by(_names),
    help="More columns of the inputs to write; ra, dec and z_spec always are.",
)
@image_options
@json_option
def score(
    inputs: tuple[str, ...],
    bundle: Path,
    output: str | None,
    estimate: int | None,
    resume: bool,
    workers: int | None,
    ray: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate the redshifts of whole surveys, without a service.

    INPUTS are files of cutouts, folders, patterns, or URLs such as s3://bucket/*.h5. The results are Parquet files:
    OUTPUT/done has a row for each cutout with estimates, OUTPUT/rejected the other cutouts with the reason. Continue a
    run that was stopped with --resume.
    """
    if estimate is not None:
        if as_json:
            raise click.UsageError("--json is for the summary of a run: leave out --estimate or --json")
        loaded = ModelBundle.load(bundle)
        show(*estimate_cost(make_plan(inputs, loaded, ScoreOptions(**options)), loaded, estimate))
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    stop_at_sigterm("continue with --resume")
    run = Run.begin(inputs, bundle, ScoreOptions(**options), output, resume=resume)
    missing = run.missing()
    n_rows, parts = sum(chunk.n_rows for chunk in missing), f"{len(missing):,} of {counted(len(run.chunks), 'part')}"
    show(f"{_inputs(run)}; {parts} to score", err=True)
    with progress(n_rows, "rows") as advance:
        for chunk in _score(run, bundle, missing, workers, ray):
            advance(chunk.n_rows)
    summary, card = run.finish(), run.bundle.card
    if as_json:
        show_json(json.dumps(summary.record(card), indent=2))
    else:
        show(*summary.lines(card))
    if not summary.n_done:
        raise InvalidDataset(f"no row has an estimate: {summary.reason}")


def _inputs(run: Run) -> str:
    """Describe the inputs; the rows of files at URLs are not known yet."""
    files = run.plan.inputs
    n_files, n_unknown = len(files), sum(file.n_rows is None and not file.error for file in files)
    text = counted(n_files, "file")
    rows = f"{counted(sum(file.n_rows or 0 for file in files), 'row')} of {text}" if n_unknown < n_files else text
    return f"{rows}, {n_unknown:,} of unknown length" if n_unknown else rows


def _score(run: Run, bundle: Path, missing: list[Chunk], workers: int | None, ray: str | None) -> Iterator[Chunk]:
    if ray is None:
        return score_here(run.plan, bundle, run.folder, missing, workers or available_cpus())
    return score_on_cluster(run.plan, bundle, run.folder, missing, ray, workers)
