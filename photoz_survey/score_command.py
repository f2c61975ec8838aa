"""The command `photoz score`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from photoz.images import parse_bands
from photoz.io.tables import parse_quantiles
from photoz.model.bundle import ModelBundle
from photoz_survey import cluster, local
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Settings
from photoz_survey.options import parsed_by, stop_at_sigterm
from photoz_survey.progress import progress
from photoz_survey.run import Run, make_plan
from photoz_survey.sizing import measure


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Model.")
@click.option("-o", "--output", help="Folder for the results, path or URL.")
@click.option("--estimate", type=click.IntRange(min=1), metavar="N", help="Only say what N rows like these would take.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; by default one for each core.")
@click.option("--ray", metavar="ADDRESS", help='Score on this Ray cluster; "auto" is the one of this machine.')
@click.option("--rows-per-part", type=click.IntRange(min=1), default=8192, show_default=True, help="Rows of each file.")
@click.option("--pdf", type=click.Choice(["float16", "float32"]), help="Write the PDFs in this type.")
@click.option(
    "--quantiles",
    default="",
    callback=parsed_by(parse_quantiles),
    help="Write these quantiles of the PDFs, such as 0.05,0.5,0.95.",
)
@click.option(
    "--columns",
    default="",
    callback=parsed_by(_names),
    help="Columns of the inputs to write too; ra, dec and z_spec always are.",
)
@click.option(
    "--bands",
    default="",
    callback=parsed_by(parse_bands),
    help="Bands of the images in order, if the files do not say.",
)
@click.option("--zero-point", type=float, help="AB magnitude of a pixel with the value 1, if the files do not say.")
@click.option("--ebv", type=float, help="E(B-V) in mag for all cutouts, instead of the files' column.")
def score(
    inputs: tuple[str, ...],
    bundle: Path,
    output: str | None,
    estimate: int | None,
    resume: bool,
    workers: int | None,
    ray: str | None,
    **settings: Any,
) -> None:
    """Estimate the redshifts of all cutouts of INPUTS, without a service.

    INPUTS are files of cutouts, folders or patterns of them, or URLs such as s3://bucket/*.h5. The results are Parquet
    files: OUTPUT/done has a row for each cutout with estimates, OUTPUT/rejected the others and why. A run that was
    stopped, by whatever, goes on with --resume.
    """
    if estimate is not None:
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
    click.echo("\n".join(run.finish().lines(run.bundle.card)))


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
