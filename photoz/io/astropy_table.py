"""Tables of estimates as astropy tables, FITS files and VOTables, with the descriptions and UCDs of their columns."""

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from photoz.io.tables import UNITS, ResultTable, column_info

if TYPE_CHECKING:
    from astropy import table as astropy_table


def to_astropy(table: ResultTable) -> "astropy_table.Table":
    """Return an astropy table whose columns have descriptions and UCDs (`column.meta["ucd"]`)."""
    from astropy.table import Table as AstropyTable

    made = AstropyTable(dict(table.columns()), meta={"model": table.model})
    for name in made.colnames:
        made[name].description, made[name].meta["ucd"] = column_info(name)
        made[name].unit = UNITS.get(name)
    return made


def write_fits(table: ResultTable, target: BinaryIO) -> None:
    """Write a FITS binary table; TCOMM and TUCD hold descriptions and UCDs. Text is ASCII, other characters escaped."""
    from astropy.io import fits

    made = to_astropy(table)
    made.meta["model"] = table.model.encode("ascii", "backslashreplace").decode()
    for name in made.colnames:
        if made[name].dtype.kind == "U":
            made[name] = np.char.encode(made[name], "ascii", "backslashreplace")
    hdu = fits.table_to_hdu(made)
    hdu.name = "PHOTOZ"
    for number, name in enumerate(made.colnames, start=1):
        hdu.header[f"TCOMM{number}"], hdu.header[f"TUCD{number}"] = column_info(name)
    hdu.writeto(target, overwrite=True)


def write_votable(table: ResultTable, target: BinaryIO) -> None:
    """Write a VOTable, whose PARAM `model` names the model; the rows are binary: XML cannot hold every character."""
    from astropy.io.votable.tree import Param, VOTableFile

    made = to_astropy(table)
    for name in made.colnames:
        if made[name].dtype.kind == "U":  # written with lengths: characters beyond 16 bits take two places
            made[name] = made[name].astype(object)
    file = VOTableFile.from_table(made)
    found = file.get_first_table()
    found.params.append(Param(file, name="model", datatype="unicodeChar", arraysize="*", value=table.model))
    file.to_xml(target, tabledata_format="binary2")
