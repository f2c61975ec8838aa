"""The command `photoz`: the SDK from a shell."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from photoz import __version__
from photoz.datasets import Cutouts
from photoz.errors import PhotozError
from photoz.grid import IntArray
from photoz_client import _output
from photoz_client._client import IN_FLIGHT, PhotozClient
from photoz_client._core import IMAGE_TYPES
from photoz_client._errors import PredictionIncomplete
from photoz_client._galaxies import Galaxies
from photoz_client._keys import ENVIRONMENT_VARIABLE, read_key
from photoz_client._prediction import Prediction
from photoz_client._splits import opened

DEFAULT_URL = "http://127.0.0.1:3000"

# The service takes up to a minute for a report; who waits at a shell can interrupt.
TIMEOUT = 120.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; mistakes and failures that are foreseen print one line.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.

    Raises
    ------
    SystemExit
        Always: status 0, 1 for a failure or 2 for a wrong call.
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


url_option = click.option(
    "--url", envvar="PHOTOZ_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="Where the service is."
)
# The key itself is no option: everyone on a machine can read the command lines of everyone else.
key_option = click.option(
    "--api-key-file",
    "api_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=lambda context, parameter, path: None if path is None else read_key(path),
    help=f"File that holds the service's API key, in place of the environment variable {ENVIRONMENT_VARIABLE}.",
)
cutouts_argument = click.argument("cutouts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
ebv_option = click.option("--ebv", type=float, help="E(B-V) in mag for all cutouts, instead of the file's column.")
in_flight_option = click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=IN_FLIGHT,
    show_default=True,
    help="Requests of 256 cutouts or less that are on their way at once.",
)
split_option = click.option("--split", help="Only the rows whose column 'split' says so, such as test.")


def _predict_options(cutouts: Cutouts, ebv: float | None, pdf: bool) -> dict[str, Any]:
    return {
        "ebv": cutouts.columns.get("ebv") if ebv is None else ebv,
        "object_id": cutouts.columns.get("object_id"),
        "pdf": pdf,
        "progress": Galaxies.of(cutouts.images).takes_parts(),
    }


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


def _output_path(*suffixes: str) -> Any:
    """Make a click callback that refuses, before any work is done, a path that could not be written after it."""

    def check(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and path.suffix.lower() not in suffixes:
            raise click.BadParameter(f"{path} should end in {', '.join(suffixes)}")
        if path is not None and not path.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {path.parent}")
        return path

    return check


@photoz.command()
@cutouts_argument
@url_option
@key_option
@ebv_option
@split_option
@in_flight_option
@click.option("--pdf", is_flag=True, help="Write the PDFs too.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_output_path(*_output.FILE_FORMATS),
    help="Write all columns to this .csv, .json or .npz file instead of printing a table.",
)
def predict(
    cutouts: Path,
    url: str,
    api_key: str | None,
    ebv: float | None,
    split: str | None,
    in_flight: int,
    pdf: bool,
    output: Path | None,
) -> None:
    """Estimate the redshifts of CUTOUTS, a .npy, .npz or .h5 file.

    Prints a table with the mean, the 68 % interval, the odds and the quality flags, or writes all columns to a file: to
    a .csv file as they come. If some cutouts fail, those of the others are printed or written, and the status is 1.
    """
    if pdf and output is None:
        raise click.UsageError("--pdf needs --output: PDFs are not printed")
    with (
        opened(cutouts, split) as galaxies,
        PhotozClient(url, api_key=api_key, timeout=TIMEOUT, in_flight=in_flight) as client,
    ):
        options = _predict_options(galaxies, ebv, pdf)
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
@cutouts_argument
@url_option
@key_option
@ebv_option
@split_option
@in_flight_option
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_output_path(".html"),
    help="Write a page with the figures and all plots to this .html file.",
)
@click.option("--plot", metavar="NAME", help="scatter (the default), pdfs, pit, qq, coverage, residuals or stacked.")
@click.option(
    "--plot-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_output_path(*(f".{name}" for name in IMAGE_TYPES)),
    help="Write a plot to this .png or .svg file.",
)
def evaluate(
    cutouts: Path,
    url: str,
    api_key: str | None,
    ebv: float | None,
    split: str | None,
    in_flight: int,
    report: Path | None,
    plot: str | None,
    plot_file: Path | None,
) -> None:
    """Score the redshifts of CUTOUTS, a .npz or .h5 file with a column z_spec.

    Prints the figures of merit with their bootstrap errors.
    """
    if plot is not None and plot_file is None:
        raise click.UsageError("--plot needs --plot-file")
    with (
        opened(cutouts, split) as galaxies,
        PhotozClient(url, api_key=api_key, timeout=TIMEOUT, in_flight=in_flight) as client,
    ):
        z_spec, object_id = galaxies.column("z_spec"), galaxies.columns.get("object_id")
        # The cutouts travel once; everything below is made from their PDFs.
        pdfs = client.predict(galaxies.images, **_predict_options(galaxies, ebv, pdf=True)).pdf
        click.echo(_output.evaluation_text(client.evaluate(z_spec, pdfs=pdfs, object_id=object_id)))
        if report is not None:
            magnitudes = galaxies.columns.get("magnitudes")
            page = client.evaluate_report(z_spec, pdfs=pdfs, object_id=object_id, magnitudes=magnitudes)
            report.write_text(page, encoding="utf-8")
        if plot_file is not None:
            format: Literal["png", "svg"] = "svg" if plot_file.suffix.lower() == ".svg" else "png"
            image = client.evaluate_plot(z_spec, pdfs=pdfs, plot=plot or "scatter", format=format)
            plot_file.write_bytes(image)


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
