"""The command `photoz nz`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
from pydantic_core import to_json

from photoz.cli.command import Command
from photoz.cli.options import SELECT, json_option, overwrite_option, parsed_by, refuse_existing
from photoz.cli.printing import show, show_json
from photoz.errors import InvalidInput, UnsupportedType, counted
from photoz.grid import RedshiftGrid
from photoz.io.formats import written_format
from photoz.io.provenance import Provenance, now
from photoz.io.tables import ResultTable
from photoz.io.writer import write_table
from photoz.selection import parse_conditions
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
@click.option("--select", default="", callback=parsed_by(_conditions), help=f"{SELECT} flags==0.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("-o", "--output", type=FILE, callback=parsed_by(_output), required=True, help="File to write.")
@click.option("--plot", type=FILE, callback=parsed_by(_plot), help="Draw n(z) to this .png, .svg or .pdf file.")
@overwrite_option
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

    RUN is the folder of the results of photoz score --pdf. The suffix of the output file sets the format of the
    distributions and their bootstrap errors, such as .parquet, or .qp.hdf5 for a qp ensemble.
    """
    refuse_existing(output)
    refuse_existing(plot)
    chosen = [*(bins_between(by, edges) if edges else ()), *bins]
    if not chosen:
        raise click.UsageError("name the bins: expected --edges or --bin")
    manifest, stacked = stack(run, chosen, select, seed)
    grid = manifest.plan.grid
    write_table(ResultTable(as_columns(stacked, grid), Provenance(manifest.plan.model, run, now()), grid), output)
    if as_json:
        show_json(_json(stacked))
    else:
        show(*map(_line, stacked))
    if plot is not None:
        _draw(stacked, grid, plot)


def _line(nz: NOfZ) -> str:
    text = f"{nz.name}: {counted(nz.n, 'galaxy')}, mean {nz.mean:.4f} ± {nz.mean_error:.4f}"
    if not nz.n_spec:
        return text
    return f"{text}; less the mean z_spec of {nz.n_spec:,}: {nz.mean_difference:+.4f} ± {nz.mean_difference_error:.4f}"


def _json(stacked: Sequence[NOfZ]) -> bytes:
    bins = [{name: value for name, value in vars(nz).items() if not name.startswith("density")} for nz in stacked]
    return to_json(bins, indent=2, inf_nan_mode="null")


def _draw(stacked: Sequence[NOfZ], grid: RedshiftGrid, path: Path) -> None:
    try:
        from photoz import plots
    except ModuleNotFoundError as error:
        raise UnsupportedType(f"{path} needs {error.name}: install it with pip install 'photoz[plots]'") from error
    densities, errors = (np.array([getattr(nz, name) for nz in stacked]) for name in ("density", "density_error"))
    figure = plots.tomographic([nz.name for nz in stacked], densities, errors, grid)
    path.write_bytes(plots.render(figure, _FORMATS[path.suffix.lower()]))
