"""The command `photoz nz`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
from pydantic_core import to_json

from photoz.cli.command import Command
from photoz.cli.options import SELECT, json_option, parsed_by
from photoz.conditions import parse_conditions
from photoz.errors import InvalidInput, UnsupportedType
from photoz.grid import RedshiftGrid
from photoz.io.formats import written_format
from photoz.io.tables import ResultTable
from photoz.io.writer import write_table
from photoz_survey.nz import NOfZ, TomographicBin, as_columns, bins_between, stack

FILE = click.Path(dir_okay=False, writable=True, path_type=Path)

_FORMATS: dict[str, Literal["png", "svg", "pdf"]] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}


def _edges(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(edge) for edge in filter(None, text.split(",")))
    except ValueError as error:
        raise InvalidInput(f"expected numbers such as 0,0.1,0.2, got {text}") from error


def _conditions(text: str) -> str:
    parse_conditions(text)
    return text


def _bins(texts: tuple[str, ...]) -> tuple[TomographicBin, ...]:
    named = [text.split(":", 1) if ":" in text else (text, text) for text in texts]
    return tuple(TomographicBin(name, _conditions(conditions)) for name, conditions in named)


def _output(path: Path) -> Path:
    written_format(path)
    return path


def _plot(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in _FORMATS:
        raise UnsupportedType(f"{path} should end in {', '.join(_FORMATS)}")
    return path


@click.command(
    cls=Command,
    examples=(
        "photoz nz scored --edges 0,0.1,0.4 -o nz.parquet",
        "photoz nz scored --bin 'far:z_mean>=0.1,odds>0.9' --select flags==0 -o nz.npz --plot nz.png",
    ),
)
@click.argument("run")
@click.option("--by", default="z_mean", show_default=True, help="Column that the edges refer to.")
@click.option("--edges", default="", callback=parsed_by(_edges), help="Edges of the bins, such as 0,0.1,0.2,0.4.")
@click.option(
    "--bin",
    "bins",
    multiple=True,
    callback=parsed_by(_bins),
    help="A bin by conditions, such as far:z_mean>=0.1,flags==0; may be given several times.",
)
@click.option(
    "--select",
    default="",
    callback=parsed_by(_conditions),
    help=f"{SELECT} flags==0.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("-o", "--output", type=FILE, callback=parsed_by(_output), required=True, help="File to write.")
@click.option("--plot", type=FILE, callback=parsed_by(_plot), help="Draw n(z) to this .png, .svg or .pdf file.")
@json_option
def nz(
    run: str,
    by: str,
    edges: tuple[float, ...],
    bins: tuple[TomographicBin, ...],
    select: str,
    seed: int,
    output: Path,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Stack the PDFs of a survey to n(z) of tomographic bins.

    RUN is the folder of the results of photoz score --pdf. The distributions, with bootstrap errors, are written in the
    format that the name of the file ends with, such as .parquet, or .qp.hdf5 for an ensemble of qp.
    """
    chosen = [*(bins_between(by, edges) if edges else ()), *bins]
    if not chosen:
        raise click.UsageError("name the bins: expected --edges or --bin")
    manifest, found = stack(run, chosen, select, seed)
    write_table(ResultTable(as_columns(found, manifest.plan.grid), manifest.plan.model, manifest.plan.grid), output)
    click.echo(_json(found) if as_json else "\n".join(map(_line, found)))
    if plot is not None:
        _draw(found, manifest.plan.grid, plot)


def _line(found: NOfZ) -> str:
    text = f"{found.name}: {found.n:,} galaxies, mean {found.mean:.4f} ± {found.mean_error:.4f}"
    if not found.n_spec:
        return text
    difference = f"{found.mean_difference:+.4f} ± {found.mean_difference_error:.4f}"
    return f"{text}; less the mean z_spec of {found.n_spec:,}: {difference}"


def _json(found: Sequence[NOfZ]) -> bytes:
    bins = [{name: value for name, value in vars(one).items() if not name.startswith("density")} for one in found]
    return to_json(bins, indent=2, inf_nan_mode="null")


def _draw(found: Sequence[NOfZ], grid: RedshiftGrid, path: Path) -> None:
    try:
        from photoz import plots
    except ModuleNotFoundError as error:
        needs = f"{path} needs {error.name}: install it with pip install 'photoz[plots]'"
        raise UnsupportedType(needs) from error
    names, densities = [one.name for one in found], np.array([one.density for one in found])
    figure = plots.tomographic(names, densities, np.array([one.density_error for one in found]), grid)
    path.write_bytes(plots.render(figure, _FORMATS[path.suffix.lower()]))
