"""Tables of estimates as astropy tables, FITS files and VOTables, with the descriptions and UCDs of their columns."""

from typing import Any, BinaryIO

import numpy as np

from photoz.io.tables import ResultTable, column_info


def to_astropy(table: ResultTable) -> Any:
    """Return an astropy table whose columns have descriptions, UCDs (`column.meta["ucd"]`) and units."""
    from astropy.table import Table

    result = Table(dict(table.columns()), meta={"model": table.model})
    for name in result.colnames:
        column, info = result[name], column_info(name)
        column.description, column.meta["ucd"], column.unit = info.description, info.ucd, info.unit or None
    return result


def write_fits(table: ResultTable, target: BinaryIO) -> None:
    """Write a FITS binary table; TCOMM and TUCD hold descriptions and UCDs. Text is ASCII, other characters escaped."""
    from astropy.io import fits

    result = to_astropy(table)
    result.meta["model"] = table.model.encode("ascii", "backslashreplace").decode()
    for name in _texts(result):
        result[name] = np.char.encode(result[name], "ascii", "backslashreplace")
    hdu = fits.table_to_hdu(result)
    hdu.name = "PHOTOZ"
    for number, name in enumerate(result.colnames, start=1):
        info = column_info(name)
        hdu.header[f"TCOMM{number}"], hdu.header[f"TUCD{number}"] = info.description, info.ucd
    hdu.writeto(target, overwrite=True)


def write_votable(table: ResultTable, target: BinaryIO) -> None:
    """Write a VOTable, whose PARAM `model` names the model; the rows are binary: XML cannot hold every character."""
    from astropy.io.votable.tree import Param, VOTableFile

    result = to_astropy(table)
    for name in _texts(result):  # written with lengths: characters beyond 16 bits take two places
        result[name] = result[name].astype(object)
    file = VOTableFile.from_table(result)
    model = Param(file, name="model", datatype="unicodeChar", arraysize="*", value=table.model)
    file.get_first_table().params.append(model)
    file.to_xml(target, tabledata_format="binary2")


def _texts(table: Any) -> list[str]:
    return [name for name in table.colnames if table[name].dtype.kind == "U"]
