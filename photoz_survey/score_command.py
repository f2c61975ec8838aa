"""The command `photoz score`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from photoz.cli.command import Command
from photoz.cli.options import WORKERS, image_options, json_option, parsed_by, quantiles_option
from photoz.model.bundle import ModelBundle
from photoz_survey import cluster, local
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Settings
from photoz_survey.options import stop_at_sigterm
from photoz_survey.progress import progress
from photoz_survey.run import Run, make_plan
from photoz_survey.sizing import measure


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
@click.option("--estimate", type=click.IntRange(min=1), metavar="N", help="Only say what N rows like these would take.")
@click.option("--resume", is_flag=True, help="Continue a run that was stopped.")
@click.option("--workers", type=click.IntRange(min=1), help=WORKERS)
@click.option("--ray", metavar="ADDRESS", help='Score on this Ray cluster; "auto" is the one of this machine.')
@click.option("--rows-per-part", type=click.IntRange(min=1), default=8192, show_default=True, help="Rows of each file.")
@click.option(
    "--pdf",
    type=click.Choice(["float16", "float32"]),
    is_flag=False,
    flag_value="float32",
    help="Write the PDFs too, as float32 or in half of the bytes.",
)
@quantiles_option
@click.option(
    "--columns",
    default="",
    callback=parsed_by(_names),
    help="Columns of the inputs to write too; ra, dec and z_spec always are.",
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
    **settings: Any,
) -> None:
    """Estimate the redshifts of whole surveys, without a service.

    INPUTS are files of cutouts, folders or patterns of them, or URLs such as s3://bucket/*.h5. The results are Parquet
    files: OUTPUT/done has a row for each cutout with estimates, OUTPUT/rejected the others and why. A run that was
    stopped, by whatever, goes on with --resume.
    """
    if estimate is not None:
        if as_json:
            raise click.UsageError("--json is for the summary of a run: leave out --estimate, or --json")
        loaded = ModelBundle.load(bundle)
        click.echo("\n".join(measure(make_plan(inputs, loaded, Settings(**settings)), loaded).lines(estimate)))
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    stop_at_sigterm("--resume goes on")
    run = Run.begin(inputs, bundle, Settings(**settings), output, resume=resume)
    missing = run.missing()
    n_rows, parts = sum(chunk.n_rows for chunk in missing), f"{len(missing):,} of {len(run.chunks):,} parts"
    click.echo(f"{_inputs(run)}; {parts} are not scored yet", err=True)
    with progress(n_rows, "rows") as advance:
        for chunk in _score(run, bundle, missing, workers, ray):
            advance(chunk.n_rows)
    summary, card = run.finish(), run.bundle.card
    click.echo(json.dumps(summary.record(card), indent=2) if as_json else "\n".join(summary.lines(card)))


def _inputs(run: Run) -> str:
    """Say how much there is to score; the rows of files at URLs are not known yet."""
    n_files, n_unknown = len(run.plan.inputs), sum(one.n_rows is None and not one.error for one in run.plan.inputs)
    files = f"{n_files:,} file{'s' * (n_files != 1)}"
    rows = f"{run.n_rows:,} rows of {files}" if n_unknown < n_files else files
    return f"{rows}, {n_unknown:,} of unknown length" if n_unknown else rows


def _score(run: Run, bundle: Path, missing: list[Chunk], workers: int | None, ray: str | None) -> Iterator[Chunk]:
    if ray is None:
        return local.score_chunks(run.plan, bundle, run.folder, missing, workers or len(os.sched_getaffinity(0)))
    return cluster.score_chunks(run.plan, bundle, run.folder, missing, ray, workers)
