"""Tables of estimates in HDF5: a dataset for each column, with its description and UCD as attributes."""

from typing import BinaryIO

import h5py

from photoz.io.hdf5 import write_columns
from photoz.io.tables import ResultTable, column_info


def write_hdf5(table: ResultTable, target: BinaryIO) -> None:
    """Write each column, (n, ...), as a dataset, text as UTF-8; the attribute `model` of the file names the model."""
    with h5py.File(target, "w") as file:
        file.attrs["model"] = table.model
        write_columns(file, dict(table.columns()))
        for name, dataset in file.items():
            info = column_info(name)
            dataset.attrs["description"], dataset.attrs["ucd"] = info.description, info.ucd
