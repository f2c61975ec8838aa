"""PDFs as an ensemble of qp (LSSTDESC), which RAIL and other codes for photometric redshifts read."""

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from photoz.io.tables import ResultTable, check_pdfs

if TYPE_CHECKING:
    import qp


def to_qp(table: ResultTable) -> "qp.Ensemble":
    """Return the PDFs as a qp ensemble in the parameterisation `hist`, which is ours: density flat inside of each bin.

    Parameters
    ----------
    table : ResultTable
        With PDFs, (n, n_bins) probability mass per bin, and their grid.

    Returns
    -------
    qp.Ensemble
        n PDFs. `ancil` holds the other columns, (n,) each, text as UTF-8 bytes.

    Raises
    ------
    InvalidPdfs
        If there are no PDFs or no grid, or the two do not fit.
    """
    import qp

    ancil = dict(table.columns())
    pdfs, grid = check_pdfs(ancil.pop("pdf", None), table.grid)
    ancil = {k: np.char.encode(v, "utf-8") if v.dtype.kind == "U" else v for k, v in ancil.items()}
    return qp.hist.create_ensemble(bins=grid.edges, pdfs=pdfs / grid.width, ancil=ancil)


def write_qp(table: ResultTable, path: Path) -> None:
    """Write an ensemble as HDF5; the attribute `model` of the file names the model."""
    to_qp(table).write_to(str(path))
    with h5py.File(path, "r+") as file:
        file.attrs["model"] = table.model
