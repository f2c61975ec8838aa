"""The command `photoz`: the SDK from a shell."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import click

from photoz import __version__
from photoz.comparison import TOLERANCE, Basis
from photoz.errors import PhotozError
from photoz.grid import IntArray
from photoz.protocol.contract import Plot
from photoz_client import _output
from photoz_client._client import PhotozClient
from photoz_client._compare import DIFFERS, Comparing, report
from photoz_client._comparison_text import report_text
from photoz_client._core import IMAGE_TYPES
from photoz_client._errors import PredictionIncomplete
from photoz_client._keys import ENVIRONMENT_VARIABLE
from photoz_client._options import TIMEOUT, Job, key_file_option, key_option, output_path, takes_cutouts, url_option
from photoz_client._prediction import Prediction


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; mistakes and failures that are foreseen print one line.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.

    Raises
    ------
    SystemExit
        Always: status 0, 1 for a failure or 2 for a wrong call. `photoz compare` has statuses of its own.
    """
    try:
        photoz(arguments, prog_name="photoz")
    except (PhotozError, OSError) as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="photoz")
def photoz() -> None:
    """Redshifts of galaxies from their images, by a photo-z service."""


def _write_csv(parts: Iterable[tuple[IntArray, Prediction]], path: Path) -> None:
    n = 0
    try:
        for n_rows in _output.write_csv((prediction for _, prediction in parts), path):
            n += n_rows
    finally:
        if n:
            click.echo(f"wrote {n} rows to {path}", err=True)


def _show(prediction: Prediction, path: Path | None) -> None:
    if path is None:
        click.echo(_output.prediction_table(prediction))
    else:
        _output.write(prediction, path)
        click.echo(f"wrote {len(prediction)} rows to {path}", err=True)


@photoz.command()
@takes_cutouts
@url_option
@key_option
@click.option("--pdf", is_flag=True, help="Write the PDFs too.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_path(*_output.FILE_FORMATS),
    help="Write all columns to this .csv, .json or .npz file instead of printing a table.",
)
def predict(
    job: Job,
    url: str,
    api_key: str | None,
    pdf: bool,
    output: Path | None,
) -> None:
    """Estimate the redshifts of CUTOUTS, a .npy, .npz or .h5 file.

    Prints a table with the mean, the 68 % interval, the odds and the quality flags, or writes all columns to a file: to
    a .csv file as they come. If some cutouts fail, those of the others are printed or written, and the status is 1.
    """
    if pdf and output is None:
        raise click.UsageError("--pdf needs --output: PDFs are not printed")
    with job.opened() as galaxies, job.client(url, api_key) as client:
        options = job.predict_options(galaxies, pdf)
        if output is not None and output.suffix.lower() == ".csv":
            _write_csv(client.predict_parts(galaxies.images, **options), output)
        else:
            try:
                prediction = client.predict(galaxies.images, **options)
            except PredictionIncomplete as error:
                if error.prediction is not None:
                    _show(error.prediction, output)
                raise
            _show(prediction, output)


@photoz.command()
@takes_cutouts
@url_option
@key_option
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_path(".html"),
    help="Write a page with the figures and all plots to this .html file.",
)
@click.option("--plot", type=click.Choice(get_args(Plot)), help="Which plot; by default scatter.")
@click.option(
    "--plot-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_path(*(f".{name}" for name in IMAGE_TYPES)),
    help="Write a plot to this .png or .svg file.",
)
def evaluate(
    job: Job,
    url: str,
    api_key: str | None,
    report: Path | None,
    plot: Plot | None,
    plot_file: Path | None,
) -> None:
    """Score the redshifts of CUTOUTS, a .npz or .h5 file with a column z_spec.

    Prints the figures of merit with their bootstrap errors.
    """
    if plot is not None and plot_file is None:
        raise click.UsageError("--plot needs --plot-file")
    with job.opened() as galaxies, job.client(url, api_key) as client:
        z_spec, object_id = galaxies.column("z_spec"), galaxies.columns.get("object_id")
        # The cutouts travel once; everything below is made from their PDFs.
        pdfs = client.predict(galaxies.images, **job.predict_options(galaxies, pdf=True)).pdf
        click.echo(_output.evaluation_text(client.evaluate(z_spec, pdfs=pdfs, object_id=object_id)))
        if report is not None:
            magnitudes = galaxies.columns.get("magnitudes")
            page = client.evaluate_report(z_spec, pdfs=pdfs, object_id=object_id, magnitudes=magnitudes)
            report.write_text(page, encoding="utf-8")
        if plot_file is not None:
            format: Literal["png", "svg"] = "svg" if plot_file.suffix.lower() == ".svg" else "png"
            image = client.evaluate_plot(z_spec, pdfs=pdfs, plot=plot or "scatter", format=format)
            plot_file.write_bytes(image)


@photoz.command(cls=Comparing)
@click.argument("url_a")
@click.argument("url_b")
@takes_cutouts
@key_file_option("--api-key-file", "key_a", f"File that holds the API key, in place of ${ENVIRONMENT_VARIABLE}.")
@key_file_option("--api-key-file-b", "key_b", "File that holds the API key of URL_B, where that is another one.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    default=TOLERANCE,
    show_default=True,
    help="Change that is let pass: a part of the figures of URL_A, or of the galaxies.",
)
@click.option(
    "--by",
    type=click.Choice(get_args(Basis)),
    help="Judge whether URL_B is worse, the default where there is z_spec, or whether the answers agree.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.pass_context
def compare(
    context: click.Context,
    job: Job,
    url_a: str,
    url_b: str,
    key_a: str | None,
    key_b: str | None,
    tolerance: float,
    by: Basis | None,
    as_json: bool,
) -> None:
    """Say what changes for CUTOUTS, a .npy, .npz or .h5 file, when the service at URL_B replaces the one at URL_A.

    Prints how z_mean, PDFs and flags differ and, with a column z_spec, which figures of merit are worse. The status is
    0 if URL_B is no worse or agrees, 1 if it is worse or differs, and 2 if the two could not be compared.
    """
    with job.client(url_a, key_a) as client_a, job.client(url_b, key_b or key_a) as client_b:
        found = report(job, (url_a, url_b), (client_a, client_b), tolerance, by)
    click.echo(found.as_json() if as_json else report_text(found))
    context.exit(0 if found.verdict.passes else DIFFERS)


@photoz.command()
@url_option
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole card as JSON.")
def model(url: str, api_key: str | None, as_json: bool) -> None:
    """Say what the service's model takes, gives and is worth."""
    with PhotozClient(url, api_key=api_key, timeout=TIMEOUT) as client:
        card = client.model()
    click.echo(card.model_dump_json(indent=2) if as_json else _output.card_text(card))


@photoz.command()
@url_option
@key_option
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait at most.")
def wait(url: str, api_key: str | None, timeout: float) -> None:
    """Wait until the service is ready to predict."""
    with PhotozClient(url, api_key=api_key, timeout=TIMEOUT) as client:
        client.wait_until_ready(timeout)
