"""The commands of `photoz` that talk to a service, two of them also without one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import click
import numpy as np

from photoz.cli.command import Command
from photoz.cli.options import json_option, quantiles_option
from photoz.cli.printing import show, show_json
from photoz.cli.text import text_table
from photoz.errors import counted
from photoz.grid import RedshiftGrid
from photoz.io.cutouts import Cutouts
from photoz.io.formats import HTML, PNG, QP, SVG, WRITTEN_SUFFIXES, written_format
from photoz.io.provenance import Provenance
from photoz.io.tables import ResultTable, json_bytes, passed_columns, result_table
from photoz.io.writer import open_table
from photoz.protocol.contract import Plot
from photoz_client import _cli_text
from photoz_client._cli_compare import compare_command as compare
from photoz_client._cli_inspect import inspect
from photoz_client._cli_options import (
    CutoutOptions,
    bundle_option,
    cutout_options,
    key_option,
    make_client,
    output_option,
    url_option,
)
from photoz_client._cli_samp import samp_sender
from photoz_client._client import PhotozClient
from photoz_client._parts import Part
from photoz_client._prediction import PredictionIncomplete, check_format

__all__ = ["compare", "evaluate", "inspect", "model", "predict", "wait"]


@click.command(
    cls=Command,
    examples=(
        "photoz predict examples/cutouts.npz",
        "photoz predict examples/cutouts.npz --bundle models/photoz --pdf -o redshifts.npz",
    ),
)
@cutout_options
@url_option
@key_option
@bundle_option
@click.option("--pdf", is_flag=True, help="Also write the PDFs.")
@quantiles_option
@json_option
@output_option(
    "-o",
    "--output",
    suffixes=WRITTEN_SUFFIXES,
    help=f"Write all columns to this file instead of printing a table. Its name ends in {', '.join(WRITTEN_SUFFIXES)}.",
)
@click.option("--samp", is_flag=True, help="Also send the FITS file or VOTable to TOPCAT, Aladin and others by SAMP.")
def predict(
    options: CutoutOptions,
    url: str,
    key_file: Path | None,
    bundle: Path | None,
    pdf: bool,
    quantiles: tuple[float, ...],
    as_json: bool,
    output: Path | None,
    samp: bool,
) -> None:
    """Estimate the redshifts of cutouts, with or without a service.

    CUTOUTS is a .npy, .npz, .h5, .fits or .parquet file, a .zarr folder, or a folder or a pattern of files. Prints a
    table with the mean, the 68 % interval, the odds and the quality flags, or all columns as JSON, or writes all
    columns to a file: CSV, JSON, npz, JSON lines, Parquet, FITS, VOTable (.vot), HDF5 or a qp ensemble (.qp.hdf5),
    which always holds the PDFs. Quantiles replace the PDFs. A .csv, .jsonl or .parquet file is written part by part. If
    some cutouts fail, the others are still printed or written, and the exit code is 1.
    """
    pdf = pdf or (output is not None and written_format(output) is QP)
    _check_output(options.path, output, as_json, pdf, quantiles)
    with (
        samp_sender(output) if samp else nullcontext() as send,
        options.client(url, key_file, bundle) as client,
        options.open(card := client.model()) as cutouts,
    ):
        predict_options = options.predict_options(cutouts, pdf or bool(quantiles))
        parts = (
            client.predict_parts(cutouts.images, **predict_options)
            if output is not None and written_format(output).in_parts
            else _predict_at_once(client, cutouts, predict_options)
        )
        parts = ((rows, replace(some, flags=some.flags | cutouts.flags)) for rows, some in parts)
        tables = _tables(parts, options.provenance(cutouts), cutouts, card.grid, quantiles)
        if output is not None:
            _write_parts(tables, output, send)
        elif as_json:
            for table in tables:
                show_json(json_bytes(table))
        else:
            for _, prediction in parts:
                show(*text_table(prediction))


def _predict_at_once(client: PhotozClient, cutouts: Cutouts, options: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the predicted rows and their estimates as a single part, also if other rows fail."""
    try:
        prediction = client.predict(cutouts.images, **options)
    except PredictionIncomplete as error:
        if error.prediction is not None:
            yield error.rows, error.prediction
        raise
    yield np.arange(len(prediction)), prediction


def _tables(
    parts: Iterator[Part],
    provenance: Provenance,
    cutouts: Cutouts,
    grid: RedshiftGrid,
    quantiles: tuple[float, ...],
) -> Iterator[ResultTable]:
    """Yield a table of each part, with columns of the cutouts."""
    columns, left_out = passed_columns(cutouts.columns, len(cutouts))
    notes = {**provenance.notes, "left_out": (*provenance.notes.get("left_out", ()), *left_out)}
    for rows, prediction in parts:
        passed = {name: values[rows] for name, values in columns.items()}
        source = replace(provenance, model=prediction.model, notes=notes)
        yield result_table(prediction, source, grid, quantiles, passed)


def _write_parts(tables: Iterator[ResultTable], path: Path, send: Callable[[Path], int] | None) -> None:
    """Write the parts of a table as they arrive, even if an error ends them; without any part there is no file."""
    n = 0
    try:
        first = next(tables)
        with open_table(path) as write:
            for table in chain([first], tables):
                write(table)
                n += len(table.values["object_id"])
    finally:
        if n:
            show(f"wrote {counted(n, 'row')} to {path}", err=True)
    if send is not None:
        show(f"sent it to {counted(send(path), 'program')}", err=True)


def _check_output(cutouts: Path, output: Path | None, as_json: bool, pdf: bool, quantiles: tuple[float, ...]) -> None:
    if output is not None and as_json:
        raise click.UsageError("--json prints the estimates: leave out --output, or --json")
    if output is None and not as_json and (pdf or quantiles):
        name = "--pdf" if pdf else "--quantiles"
        raise click.UsageError(f"{name} needs --output or --json: tables have no PDFs")
    if quantiles and pdf:
        raise click.UsageError("--quantiles are written in place of the PDFs: leave out --pdf, and use another format")
    if output is not None:
        if output.resolve() == cutouts.resolve():
            raise click.UsageError(f"{output} holds the cutouts: choose another file for the estimates")
        check_format(output)


@click.command(
    cls=Command,
    examples=(
        "photoz evaluate examples/cutouts.npz",
        "photoz evaluate examples/cutouts.npz --report report.html --plot pit --plot-file pit.png",
    ),
)
@cutout_options
@url_option
@key_option
@bundle_option
@json_option
@output_option("--report", suffixes=HTML.suffixes, help="Write the metrics and all plots to this .html page.")
@click.option("--plot", type=click.Choice(get_args(Plot)), help="Which plot to write; by default scatter.")
@output_option("--plot-file", suffixes=(*PNG.suffixes, *SVG.suffixes), help="Write a plot to this .png or .svg file.")
def evaluate(
    options: CutoutOptions,
    url: str,
    key_file: Path | None,
    bundle: Path | None,
    as_json: bool,
    report: Path | None,
    plot: Plot | None,
    plot_file: Path | None,
) -> None:
    """Score the redshifts of cutouts against true ones.

    CUTOUTS is a file, folder or pattern, as for predict, with a column z_spec. Prints the metrics with their bootstrap
    errors.
    """
    if plot is not None and plot_file is None:
        raise click.UsageError("--plot needs --plot-file")
    with options.client(url, key_file, bundle) as client, options.open(client.model()) as cutouts:
        z_spec, object_id = cutouts.column("z_spec"), cutouts.columns.get("object_id")
        # The cutouts are sent once; everything below uses their PDFs.
        pdfs = client.predict(cutouts.images, **options.predict_options(cutouts, pdf=True)).pdf
        evaluation = client.evaluate(z_spec, pdfs=pdfs, object_id=object_id)
        if as_json:
            show_json(evaluation.model_dump_json(indent=2))
        else:
            show(*_cli_text.evaluation_text(evaluation))
        if report is not None:
            magnitudes = cutouts.columns.get("magnitudes")
            page = client.evaluate_report(z_spec, pdfs=pdfs, object_id=object_id, magnitudes=magnitudes)
            report.write_text(page, encoding="utf-8")
        if plot_file is not None:
            format: Literal["png", "svg"] = "svg" if plot_file.suffix.lower() in SVG.suffixes else "png"
            plot_file.write_bytes(client.evaluate_plot(z_spec, pdfs=pdfs, plot=plot or "scatter", format=format))


@click.command(cls=Command, examples=("photoz model", "photoz model --json"))
@url_option
@key_option
@json_option
def model(url: str, key_file: Path | None, as_json: bool) -> None:
    """Describe the model of the service."""
    with make_client(url, key_file) as client:
        card = client.model()
    if as_json:
        show_json(card.model_dump_json(indent=2))
    else:
        show(*_cli_text.card_text(card))


@click.command(cls=Command, examples=("photoz wait --timeout 10",))
@url_option
@key_option
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait at most.")
def wait(url: str, key_file: Path | None, timeout: float) -> None:
    """Wait until the service is ready to predict."""
    with make_client(url, key_file) as client:
        client.wait_until_ready(timeout)
