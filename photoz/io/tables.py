"""Tables of estimates: the meaning of their columns, and their bytes as CSV, JSON and JSON lines."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from photoz import pdf
from photoz.errors import InvalidPdfs
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import FloatArray, RedshiftGrid
from photoz.io.provenance import Provenance

Array = npt.NDArray[Any]

# Columns of the cutouts that are written beside the estimates.
PASSED_COLUMNS = ("ra", "dec", "z_spec")


class ColumnInfo(NamedTuple):
    """Meaning of a column: description, UCD (IVOA, UCD1+) and unit."""

    description: str = ""
    ucd: str = ""
    unit: str = ""


_LOWER, _UPPER = "lower end of the shortest interval that holds", "upper end of the shortest interval that holds"

COLUMN_INFO = {
    "object_id": ColumnInfo("name of the galaxy", "meta.id;meta.main"),
    "ra": ColumnInfo("right ascension of the galaxy", "pos.eq.ra", "deg"),
    "dec": ColumnInfo("declination of the galaxy", "pos.eq.dec", "deg"),
    "z_spec": ColumnInfo("true redshift", "src.redshift"),
    "z_mean": ColumnInfo("mean of the PDF", "src.redshift.phot"),
    "z_median": ColumnInfo("median of the PDF", "src.redshift.phot"),
    "z_mode": ColumnInfo("mode of the PDF", "src.redshift.phot"),
    "z_std": ColumnInfo("standard deviation of the PDF", "stat.error;src.redshift.phot"),
    "z_lo68": ColumnInfo(f"{_LOWER} 68 % of the probability", "src.redshift.phot;stat.min"),
    "z_hi68": ColumnInfo(f"{_UPPER} 68 % of the probability", "src.redshift.phot;stat.max"),
    "z_lo95": ColumnInfo(f"{_LOWER} 95 % of the probability", "src.redshift.phot;stat.min"),
    "z_hi95": ColumnInfo(f"{_UPPER} 95 % of the probability", "src.redshift.phot;stat.max"),
    "odds": ColumnInfo(f"probability within {pdf.ODDS_HALF_WIDTH:g} (1 + z_mode) of the mode", "stat.probability"),
    "ood_score": ColumnInfo("how unlike the training images the cutout is", "meta.code.qual"),
    "flags": ColumnInfo("bit mask: " + ", ".join(f"{flag.value} {flag.name}" for flag in Flag), "meta.code.qual"),
    "pdf": ColumnInfo("probability per redshift bin", "stat.probability;src.redshift.phot"),
}


def column_info(name: str) -> ColumnInfo:
    """Return the meaning of a column of estimates or quantiles; empty for any other column."""
    if name in COLUMN_INFO:
        return COLUMN_INFO[name]
    if not name.startswith(_QUANTILE):
        return ColumnInfo()
    percent = float(name.removeprefix(_QUANTILE).replace("_", "."))
    return ColumnInfo(f"redshift below which {percent:g} % of the probability lies", "src.redshift.phot;stat.value")


@dataclass(frozen=True)
class ResultTable:
    """Columns, (n, ...) each, where they come from and, where it is known, the grid of the PDFs."""

    values: Mapping[str, Array]
    provenance: Provenance = field(default_factory=Provenance)
    grid: RedshiftGrid | None = None

    def columns(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and the values of each column."""
        return iter(self.values.items())

    def z_edges(self) -> FloatArray | None:
        """Return the edges of the bins of the PDFs, (n_bins + 1,); None without PDFs.

        Raises `InvalidPdfs` if their grid is not known, or does not fit them.
        """
        if "pdf" not in self.values:
            return None
        grid = _known(self.grid)
        if (shape := self.values["pdf"].shape)[1:] != (grid.n_bins,):
            raise InvalidPdfs(f"expected pdfs of shape (n, {grid.n_bins}), got {shape}")
        return grid.edges


def result_table(
    estimates: Estimates,
    provenance: Provenance | None = None,
    grid: RedshiftGrid | None = None,
    quantiles: Sequence[float] = (),
    passed: Mapping[str, Array] | None = None,
) -> ResultTable:
    """Make a table of estimates, whose PDFs have this grid.

    A column (n,) for each of the quantiles, the redshift below which a probability in (0, 1) lies, replaces the PDFs.
    `passed` are columns of the cutouts, (n,) each, which follow `object_id`. Raises `InvalidPdfs` if there are
    quantiles, but no PDFs or no grid, or the two do not fit, and `ValueError` if a quantile is not in (0, 1).
    """
    columns: dict[str, Array] = {"object_id": estimates.object_id, **(passed or {}), **dict(estimates.columns())}
    if bad := [q for q in quantiles if not 0.0 < q < 1.0]:
        raise ValueError(f"expected quantiles between 0 and 1, got {bad[0]:g}")
    if quantiles:
        pdfs, grid = check_pdfs(columns.pop("pdf", None), grid)
        columns |= {quantile_name(q): pdf.quantile(pdfs, grid, q) for q in quantiles}
    return ResultTable(columns, provenance or Provenance(), grid)


def passed_columns(columns: Mapping[str, Array], n: int) -> tuple[dict[str, FloatArray], list[str]]:
    """Return those of `PASSED_COLUMNS` that are there, (n,) float64 each, and why others are left out, in words."""
    passed, left_out = dict[str, FloatArray](), list[str]()
    for name in PASSED_COLUMNS:
        values = columns.get(name)
        if values is None:
            continue
        if values.size == n and values.dtype.kind in "fiu":
            passed[name] = values.reshape(n).astype(np.float64)
        else:
            left_out.append(f"{name}, expected {n} numbers, got shape {values.shape} and dtype {values.dtype}")
    return passed, left_out


def check_pdfs(pdfs: FloatArray | None, grid: RedshiftGrid | None) -> tuple[FloatArray, RedshiftGrid]:
    """Return PDFs, (n, n_bins), as float64, rows sum to 1, and their grid; raises `InvalidPdfs` without either."""
    if pdfs is None:
        raise InvalidPdfs("there are no PDFs: predict with pdf=True")
    return pdf.as_pdfs(pdfs, grid := _known(grid)), grid


def _known(grid: RedshiftGrid | None) -> RedshiftGrid:
    if grid is None:
        raise InvalidPdfs("the redshift grid of the PDFs is not known: pass grid=client.model().grid")
    return grid


_QUANTILE = "z_q"


def quantile_name(q: float) -> str:
    """Return the name of the column of a quantile: z_q05 for 0.05, z_q97_5 for 0.975."""
    whole, _, rest = f"{100 * q:.6f}".rstrip("0").partition(".")
    return f"{_QUANTILE}{whole:0>2}" + (f"_{rest}" if rest else "")


def parse_quantiles(text: str) -> tuple[float, ...]:
    """Parse probabilities such as "0.05,0.5,0.95"; none for an empty text. Raises `ValueError`."""
    try:
        quantiles = tuple(float(q) for q in text.split(",")) if text else ()
    except ValueError as error:
        raise ValueError(f"expected numbers such as 0.05,0.5,0.95, got {text}") from error
    if any(not 0.0 < q < 1.0 for q in quantiles):
        raise ValueError(f"expected numbers between 0 and 1, got {text}")
    return quantiles


def flat_columns(table: Estimates | ResultTable) -> Iterator[tuple[str, Array]]:
    """Yield the columns of a table, (n,) each: a PDF is one column per bin, pdf_0, pdf_1, ..."""
    for name, values in table.columns():
        if values.ndim == 1:
            yield name, values
        else:
            yield from ((f"{name}_{i}", values[:, i]) for i in range(values.shape[1]))


def csv_bytes(table: Estimates | ResultTable) -> bytes:
    """Write a header and one line per galaxy; NaN is an empty field, a PDF one column per bin."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names, columns = zip(*flat_columns(table), strict=True)
    writer.writerow(names)
    rows = zip(*(values.tolist() for values in columns), strict=True)
    writer.writerows(["" if value != value else value for value in row] for row in rows)
    return text.getvalue().encode()


def json_bytes(table: ResultTable) -> bytes:
    """Write the JSON of a `PredictResponse`; NaN is null, and names are text, since JavaScript rounds long integers."""
    record = table.provenance.record()
    content: dict[str, Any] = {"model": record.pop("model", ""), "provenance": record}
    if (edges := table.z_edges()) is not None:
        content["z_edges"] = edges.tolist()
    for name, values in table.values.items():
        # PDFs row by row: all at once would block the interpreter.
        content[name] = _json_list(name, values) if values.ndim == 1 else (row.tolist() for row in values)
    return to_json(content, inf_nan_mode="null")


def json_lines_bytes(table: ResultTable) -> bytes:
    """Write one JSON object per galaxy and line, values as `json_bytes`."""
    names, columns = zip(*table.columns(), strict=True)
    rows = zip(*map(_json_list, names, columns), strict=True)
    return b"".join(to_json(dict(zip(names, row, strict=True)), inf_nan_mode="null") + b"\n" for row in rows)


def _json_list(name: str, values: Array) -> list[Any]:
    texts: list[Any] = (values.astype(np.str_) if name == "object_id" else values).tolist()
    return texts
