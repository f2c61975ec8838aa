"""Tables of estimates as astropy tables, FITS files and VOTables, with the descriptions and UCDs of their columns."""

from typing import Any, BinaryIO

import numpy as np

from photoz.io.provenance import NOTES
from photoz.io.tables import ResultTable, column_info

# Keywords of a FITS header by the names of `Provenance.record`. Dates of FITS are in UTC and do not say so.
KEYWORDS = {"model": "MODEL", "input": "INPUT", "date": "DATE", "software": "CREATOR"}


def to_astropy(table: ResultTable) -> Any:
    """Return an astropy table whose columns have descriptions, UCDs (`column.meta["ucd"]`) and units.

    Its `meta` has the provenance and, if the PDFs have a known grid, the edges of their bins: `z_edges`, (n_bins + 1,).
    """
    from astropy.table import Table

    edges = None if table.grid is None else table.z_edges()
    result = Table(dict(table.columns()), meta={"model": table.provenance.model} | table.provenance.record())
    if edges is not None:
        result.meta["z_edges"] = edges
    for name in result.colnames:
        column, info = result[name], column_info(name)
        column.description, column.meta["ucd"], column.unit = info.description, info.ucd, info.unit or None
    return result


def write_fits(table: ResultTable, target: BinaryIO) -> None:
    """Write a FITS binary table; TCOMM and TUCD hold descriptions and UCDs. Text is ASCII, other characters escaped.

    With PDFs, ZMIN, ZMAX and NZBINS describe their grid, and the image Z_EDGES holds the edges of its bins.
    """
    from astropy.io import fits

    edges, result = table.z_edges(), to_astropy(table)
    result.meta.clear()
    for name in result.colnames:
        if result[name].dtype.kind == "U":
            result[name] = np.char.encode(result[name], "ascii", "backslashreplace")
    hdu = fits.table_to_hdu(result)
    hdu.name = "PHOTOZ"
    for number, name in enumerate(result.colnames, start=1):
        info = column_info(name)
        hdu.header[f"TCOMM{number}"], hdu.header[f"TUCD{number}"] = info.description, info.ucd
    _describe(table, hdu.header)
    hdus = fits.HDUList([fits.PrimaryHDU(), hdu])
    if edges is not None:
        hdu.header["ZMIN"], hdu.header["ZMAX"] = edges[0], edges[-1]
        hdu.header["NZBINS"] = (len(edges) - 1, "bins of PDF; their edges are in Z_EDGES")
        hdus.append(fits.ImageHDU(edges, name="Z_EDGES"))  # a second table would make Table.read warn
    hdus.writeto(target, overwrite=True)


def _describe(table: ResultTable, header: Any) -> None:
    """Write the provenance of a table to a FITS header, notes as HISTORY."""
    record = table.provenance.record()
    for name, keyword in KEYWORDS.items():
        if text := record.get(name):
            header[keyword] = _ascii(text.removesuffix("Z") if name == "date" else text)
    for name in NOTES:
        for note in record.get(name, ()):
            header.add_history(f"{name.replace('_', ' ')}: {_ascii(note)}")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def write_votable(table: ResultTable, target: BinaryIO) -> None:
    """Write a VOTable; the rows are binary: XML cannot hold every character. NaN is null.

    PARAMs hold the provenance and, with PDFs, the edges of their bins, `z_edges`; INFOs hold the notes on the input.
    """
    from astropy.io.votable.tree import Info, Param, VOTableFile
    from astropy.table import MaskedColumn

    edges, result = table.z_edges(), to_astropy(table)
    result.meta.clear()
    for name in result.colnames:
        if result[name].dtype.kind == "U":  # written with lengths: characters beyond 16 bits take two places
            result[name] = result[name].astype(object)
        elif result[name].ndim == 1 and result[name].dtype.kind == "f" and np.isnan(result[name]).any():
            result[name] = MaskedColumn(result[name], mask=np.isnan(result[name]))
    file = VOTableFile.from_table(result)
    content, record = file.get_first_table(), table.provenance.record()
    for name in KEYWORDS:
        if text := record.get(name):
            content.params.append(Param(file, name=name, datatype="unicodeChar", arraysize="*", value=text))
    if edges is not None:
        param = Param(file, name="z_edges", datatype="double", arraysize=str(len(edges)), value=edges)
        param.description = "edges of the redshift bins of pdf"
        content.params.append(param)
    notes = [(name, note) for name in NOTES for note in record.get(name, ())]
    content.infos.extend(Info(ID=f"note{n}", name=name, value=note) for n, (name, note) in enumerate(notes, start=1))
    file.to_xml(target, tabledata_format="binary2")
