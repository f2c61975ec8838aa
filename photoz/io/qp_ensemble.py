"""PDFs as an ensemble of qp (LSSTDESC), which RAIL and other codes for photometric redshifts read."""

from typing import Any, BinaryIO

import h5py
import numpy as np

from photoz.grid import FloatArray
from photoz.io.hdf5 import write_provenance
from photoz.io.tables import ResultTable, check_pdfs


def to_qp(table: ResultTable) -> Any:
    """Return the PDFs as a qp ensemble in the parameterisation `hist`: the density is constant within each bin.

    The table has n PDFs and their grid, or `InvalidPdfs` is raised. `ancil` of the ensemble holds the other columns,
    (n,) each, text as UTF-8 bytes.
    """
    import qp

    edges, densities, ancil = _parts(table)
    return qp.hist.create_ensemble(bins=edges, pdfs=densities, ancil=ancil)


def write_qp(table: ResultTable, target: BinaryIO) -> None:
    """Write the HDF5 file that qp writes of such an ensemble; its attributes hold the provenance.

    Raises `InvalidPdfs` as `to_qp`.
    """
    edges, densities, ancil = _parts(table)
    meta = {"bins": edges[np.newaxis], "pdf_name": np.array([b"hist"]), "pdf_version": np.array([0])}
    with h5py.File(target, "w") as file:
        write_provenance(file, table)
        for group, columns in (("meta", meta), ("data", {"pdfs": densities}), ("ancil", ancil)):
            for name, values in columns.items():
                file[f"{group}/{name}"] = values


def _parts(table: ResultTable) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Return the edges of the bins, (n_bins + 1,), densities, (n, n_bins), and the other columns."""
    ancil = dict(table.columns())
    pdfs, grid = check_pdfs(ancil.pop("pdf", None), table.grid)
    return (
        grid.edges,
        pdfs / grid.width,
        {k: np.char.encode(v, "utf-8") if v.dtype.kind == "U" else v for k, v in ancil.items()},
    )
