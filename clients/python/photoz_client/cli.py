"""The command `photoz`: the SDK from a shell."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, get_args

import click
import numpy as np

from photoz import __version__
from photoz.errors import PhotozError, UnsupportedType
from photoz.grid import IntArray
from photoz.io.tables import parse_quantiles
from photoz.io.text_table import text_table
from photoz.io.writer import FORMATS, QP_SUFFIX
from photoz.protocol.contract import Plot
from photoz_client import _cli_files, _cli_text
from photoz_client._cli_compare import DIFFERS, compare_services, failures_exit_with_2, report_json, report_text
from photoz_client._cli_options import (
    INPUT_FILE,
    CutoutOptions,
    cutout_options,
    key_option,
    make_client,
    output_option,
    url_option,
)
from photoz_client._comparison import TOLERANCE, Basis
from photoz_client._core import IMAGE_TYPES
from photoz_client._prediction import Prediction, PredictionIncomplete, check_format

COMMANDS = "photoz.commands"  # group of entry points


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; expected failures print one line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Raises
    ------
    SystemExit
        Always: 0 for success, 1 for a failure, 2 for wrong usage. `photoz compare` has exit codes of its own.
    """
    try:
        photoz(arguments, prog_name="photoz")
    except (PhotozError, OSError) as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


class _Commands(click.Group):
    """The commands of this module, and those that other packages offer as entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=COMMANDS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=COMMANDS, name=cmd_name):
            try:
                found: click.Command = entry.load()
            except ModuleNotFoundError as error:
                package = str(error.name).partition(".")[0]
                needs = f"needs {package}: install it with pip install 'photoz[{entry.extras[0]}]'"
                return _unavailable(cmd_name, needs)
            return found
        return super().get_command(ctx, cmd_name)


def _unavailable(name: str, needs: str) -> click.Command:
    """Return a command that says which package it needs, also in the help."""

    def refuse() -> None:
        raise UnsupportedType(f"photoz {name} {needs}")

    everything = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, expose_value=False)
    settings = {"ignore_unknown_options": True}
    return click.Command(name, settings, refuse, [everything], short_help=needs, add_help_option=False)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="photoz")
def photoz() -> None:
    """Estimate redshifts of galaxies from their images with a photo-z service."""


def _read_quantiles(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...]:
    try:
        return parse_quantiles(text or "")
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@photoz.command()
@cutout_options
@url_option
@key_option
@click.option("--pdf", is_flag=True, help="Also write the PDFs.")
@click.option(
    "--quantiles",
    callback=_read_quantiles,
    help="Write these quantiles of the PDFs, such as 0.05,0.16,0.5,0.84,0.95, in place of the PDFs.",
)
@output_option(
    "-o",
    "--output",
    suffixes=tuple(FORMATS),
    help=f"Write all columns to this file instead of printing a table. Its name ends in {', '.join(FORMATS)}.",
)
def predict(
    options: CutoutOptions,
    url: str,
    key_file: Path | None,
    pdf: bool,
    quantiles: tuple[float, ...],
    output: Path | None,
) -> None:
    """Estimate the redshifts of CUTOUTS, a .npy, .npz, .h5 or .fits file, a folder or a pattern of them.

    Prints a table with the mean, the 68 % interval, the odds and the quality flags, or writes all columns to a file:
    CSV, JSON, npz, JSON lines, Parquet, FITS, VOTable (.vot), HDF5 or an ensemble of qp (.qp.hdf5), which always holds
    the PDFs. A .csv, .jsonl or .parquet file is written part by part. If some cutouts fail, the others are still
    printed or written, and the exit code is 1.
    """
    if output is None and (pdf or quantiles):
        raise click.UsageError(f"{'--pdf' if pdf else '--quantiles'} needs --output: PDFs are not printed")
    is_qp = output is not None and output.name.lower().endswith(QP_SUFFIX)
    if quantiles and (pdf or is_qp):
        raise click.UsageError("--quantiles are written in place of the PDFs: leave out --pdf, and use another format")
    if output is not None:
        if output.resolve() == options.path.resolve():
            raise click.UsageError(f"{output} holds the cutouts: choose another file for the estimates")
        check_format(output)
    with options.client(url, key_file) as client, options.open(card := client.model()) as cutouts:
        file = None if output is None else _cli_files.OutputFile(output, card.grid, quantiles, cutouts)
        predict_options = options.predict_options(cutouts, pdf or is_qp or bool(quantiles))
        if file is not None and file.in_parts:
            file.write_parts(client.predict_parts(cutouts.images, **predict_options))
            return
        show = file.write if file is not None else _print_table
        try:
            prediction = client.predict(cutouts.images, **predict_options)
        except PredictionIncomplete as error:
            if error.prediction is not None:
                show(error.prediction, error.rows)
            raise
        show(prediction, np.arange(len(prediction)))


def _print_table(prediction: Prediction, rows: IntArray) -> None:
    click.echo(text_table(prediction))


@photoz.command()
@cutout_options
@url_option
@key_option
@output_option("--report", suffixes=(".html",), help="Write a page with the metrics and all plots to this .html file.")
@click.option("--plot", type=click.Choice(get_args(Plot)), help="Which plot to write; by default scatter.")
@output_option(
    "--plot-file", suffixes=tuple(f".{name}" for name in IMAGE_TYPES), help="Write a plot to this .png or .svg file."
)
def evaluate(
    options: CutoutOptions,
    url: str,
    key_file: Path | None,
    report: Path | None,
    plot: Plot | None,
    plot_file: Path | None,
) -> None:
    """Score the redshifts of CUTOUTS against true ones.

    CUTOUTS is a .npz or .h5 file with a column z_spec. Prints the metrics with their bootstrap errors.
    """
    if plot is not None and plot_file is None:
        raise click.UsageError("--plot needs --plot-file")
    with options.client(url, key_file) as client, options.open(client.model()) as cutouts:
        z_spec, object_id = cutouts.column("z_spec"), cutouts.columns.get("object_id")
        # The cutouts are sent once; everything below uses their PDFs.
        pdfs = client.predict(cutouts.images, **options.predict_options(cutouts, pdf=True)).pdf
        click.echo(_cli_text.evaluation_text(client.evaluate(z_spec, pdfs=pdfs, object_id=object_id)))
        if report is not None:
            magnitudes = cutouts.columns.get("magnitudes")
            page = client.evaluate_report(z_spec, pdfs=pdfs, object_id=object_id, magnitudes=magnitudes)
            report.write_text(page, encoding="utf-8")
        if plot_file is not None:
            format: Literal["png", "svg"] = "svg" if plot_file.suffix.lower() == ".svg" else "png"
            plot_file.write_bytes(client.evaluate_plot(z_spec, pdfs=pdfs, plot=plot or "scatter", format=format))


@photoz.command()
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
@click.option("--json", "as_json", is_flag=True, help="Print the whole comparison as JSON.")
@click.pass_context
@failures_exit_with_2()
def compare(
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

    Use it before the service at URL_B replaces the one at URL_A. Sends CUTOUTS, as for predict, to both.
    Prints how z_mean, PDFs and flags differ and, with a column z_spec, which metrics are worse. The exit code is 0 if
    URL_B is no worse or agrees, 1 if it is worse or differs, and 2 if the two could not be compared.
    """
    with options.client(url_a, key_file) as client_a, options.client(url_b, key_file_b or key_file) as client_b:
        report = compare_services(options, (url_a, url_b), (client_a, client_b), tolerance, by)
    click.echo(report_json(report) if as_json else report_text(report))
    context.exit(0 if report.verdict.passes else DIFFERS)


@photoz.command()
@url_option
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole card as JSON.")
def model(url: str, key_file: Path | None, as_json: bool) -> None:
    """Describe the model of the service."""
    with make_client(url, key_file) as client:
        card = client.model()
    click.echo(card.model_dump_json(indent=2) if as_json else _cli_text.card_text(card))


@photoz.command()
@url_option
@key_option
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait at most.")
def wait(url: str, key_file: Path | None, timeout: float) -> None:
    """Wait until the service is ready to predict."""
    with make_client(url, key_file) as client:
        client.wait_until_ready(timeout)
