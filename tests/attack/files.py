"""Files of cutouts as bytes: `.npy`, `.npz`, FITS and HDF5, in each layout that the service reads, and in others."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table

from photoz.images import ImageSpec


def written(write: Callable[[Any], object]) -> bytes:
    """Return what a function writes into a file."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    return written(lambda file: np.lib.format.write_array(file, array, allow_pickle=False))


def npy_with_header(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    """Make a `.npy` file with any text as its header."""
    length = (len(header) + 1).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + b"\n" + data


def make_npz(
    members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, arrays: Mapping[str, np.ndarray] | None = None
) -> bytes:
    """Make a `.npz` file of raw members and of those arrays that are not among them; dated 1980, the same each time."""
    contents = {f"{name}.npy": npy_bytes(array) for name, array in (arrays or {}).items()} | dict(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, method, 1)
    return buffer.getvalue()


def npz_bytes(**arrays: Any) -> bytes:
    """Make a `.npz` file of arrays."""
    return make_npz({}, arrays={name: np.asarray(array) for name, array in arrays.items()})


def fits_files(images: np.ndarray, bands: tuple[str, ...], columns: Mapping[str, Any]) -> dict[str, bytes]:
    """Make FITS files of each layout: a cube, a table, an image for each galaxy, and one for each band."""
    first = np.moveaxis(images, -1, 1)
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1.1e-4, "CDELT2": 1.1e-4}
    header = fits.Header({"BANDS": "".join(bands), "BUNIT": "nJy", **sky})
    table = Table({"IMAGE": first, **{name.upper(): values for name, values in columns.items()}})
    layouts = {
        "cube": [fits.PrimaryHDU(first, header)],
        "cube of integers": [fits.PrimaryHDU(first.astype(">i2"), header)],
        "table": [fits.PrimaryHDU(), fits.table_to_hdu(table)],
        "galaxies": [fits.PrimaryHDU(), *(fits.ImageHDU(image, header, f"G{row}") for row, image in enumerate(first))],
        "bands": [fits.PrimaryHDU(), *(fits.ImageHDU(first[0, i], None, band) for i, band in enumerate(bands))],
    }
    return {name: written(fits.HDUList(hdus).writeto) for name, hdus in layouts.items()}


def odd_fits_files(images: np.ndarray, bands: tuple[str, ...]) -> dict[str, bytes]:
    """Make FITS files that are converted, or refused."""
    first, names = np.moveaxis(images, -1, 1), "".join(bands)
    cubes = {
        "cube without header": (first, {}),
        "larger cube": (np.pad(first, ((0, 0), (0, 0), (8, 8), (8, 8))), {"BANDS": names}),
        "unknown unit": (first, {"BANDS": names, "BUNIT": "furlong"}),
        "other order of bands": (first[:, ::-1], {"BANDS": names[::-1]}),
        "missing band": (first[:, :-1], {"BANDS": names[:-1]}),
        "no image": (None, {}),
    }
    return {name: written(fits.PrimaryHDU(data, fits.Header(h)).writeto) for name, (data, h) in cubes.items()}


def hdf5_files(images: np.ndarray, spec: ImageSpec, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """Make HDF5 files: as we write them, as Hayat et al. do, with the bands first, and packed."""
    theirs = {"images": np.moveaxis(images, -1, 1), "e_bv": columns["ebv"], "specz_redshift": columns["z_spec"]}
    packed = {"compression": "gzip", "chunks": (1, *images.shape[1:])}
    return {
        "ours": _hdf5({"images": images, **columns}, json.dumps(asdict(spec))),
        "bands first": _hdf5(theirs, "null"),
        "packed": _hdf5({"images": images}, "null", **packed),
        "without images": _hdf5(dict(columns), "null"),
    }


def _hdf5(columns: Mapping[str, Any], spec: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["image_spec"] = spec
        for name, values in columns.items():
            text = h5py.string_dtype() if np.asarray(values).dtype.kind == "U" else None
            file.create_dataset(name, data=np.asarray(values, object) if text else values, dtype=text, **options)
    return buffer.getvalue()
