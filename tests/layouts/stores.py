"""Rows of HDF5, Zarr, Parquet, npz and FITS tables: images, columns with units, and attributes that describe them."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import zarr
from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet

from tests.layouts.galaxies import IMAGES, SCALE, Layout

Attributes = Mapping[str, Any]
DESCRIBED: Attributes = {"bands": "u,g,r,i,z", "unit": "nanomaggy", "pixel_scale": SCALE}
FILES = {"h5": "mine.h5", "zarr": "mine.zarr", "parquet": "mine.parquet", "npz": "mine.npz", "table": "mine.fits"}


def write_h5(path: Path, images: np.ndarray, columns: Attributes, about: Attributes, own: Any, units: Any) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(about)
        file.create_dataset("images", data=images).attrs.update(own)
        for name, values in columns.items():
            text = values.dtype.kind == "U"
            options = {"data": values.astype(object), "dtype": h5py.string_dtype()} if text else {"data": values}
            file.create_dataset(name, **options).attrs.update({"unit": units[name]} if name in units else {})


def write_zarr(
    path: Path, images: np.ndarray, columns: Attributes, about: Attributes, own: Any, units: Any, zarr_format: int = 3
) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    group.attrs.update(about)
    group.create_array("images", data=images).attrs.update(own)
    for name, values in columns.items():
        group.create_array(name, data=values).attrs.update({"units": units[name]} if name in units else {})


def write_parquet(path: Path, images: np.ndarray, columns: Attributes, about: Attributes, own: Any, units: Any) -> None:
    def texts(values: Attributes) -> dict[str, str]:
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}

    nested = pa.array(images.ravel())
    for length in images.shape[:0:-1]:
        nested = pa.FixedSizeListArray.from_arrays(nested, length)
    arrays = {"images": nested, **{name: pa.array(values) for name, values in columns.items()}}
    described = {"images": texts(own), **{name: {"unit": unit} for name, unit in units.items()}}
    fields = [pa.field(name, array.type, metadata=described.get(name)) for name, array in arrays.items()]
    parquet.write_table(pa.table(list(arrays.values()), schema=pa.schema(fields, metadata=texts(about))), path)


def write_npz(path: Path, images: np.ndarray, columns: Attributes, about: Attributes, own: Any, units: Any) -> None:
    np.savez(path, images=images, **columns, **about)


def write_table(path: Path, images: np.ndarray, columns: Attributes, about: Attributes, own: Any, units: Any) -> None:
    header = {"BANDS": about["bands"].replace(",", ""), "PIXSCALE": about["pixel_scale"]}
    hdu = fits.table_to_hdu(Table({"IMAGE": images, **columns}, meta=header))
    for name, unit in {"IMAGE": about["unit"], **units}.items():  # astropy's tables drop units that they do not know
        hdu.columns[name].unit = unit
    hdu.writeto(path)


WRITERS = {"h5": write_h5, "zarr": write_zarr, "parquet": write_parquet, "npz": write_npz, "table": write_table}


def row(
    kind: str,
    values: Attributes | None = None,
    *,
    pixels: np.ndarray = IMAGES,
    about: Attributes = DESCRIBED,
    own: Attributes | None = None,
    units: Attributes | None = None,
    options: Attributes | None = None,
    **expected: Any,
) -> Layout:
    """Return the row of a file with `values` by column, and attributes of the file, `about`, and its images, `own`."""
    write = partial(WRITERS[kind], images=pixels, columns=values or {}, about=about, own=own or {}, units=units or {})
    return Layout(partial(write, **(options or {})), **({"file": FILES[kind]} | expected))
