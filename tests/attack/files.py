"""Files of cutouts as bytes: `.npy`, `.npz`, FITS and HDF5, in each layout that the service reads, and in others."""

import io
import json
import zipfile
from dataclasses import asdict

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table


def written(write):
    """Return what a function writes into a file."""
    write(buffer := io.BytesIO())
    return buffer.getvalue()


def npy_bytes(array):
    return written(lambda file: np.lib.format.write_array(file, array, allow_pickle=False))


def npy_with_header(header, data=b""):
    """Make a `.npy` file with any text as its header."""
    return b"\x93NUMPY\1\0" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + data


def make_npz(members, method=zipfile.ZIP_STORED, arrays=None):
    """Make a `.npz` file of raw members and of those arrays that are not among them; dated 1980, the same each time."""
    contents = {f"{name}.npy": npy_bytes(array) for name, array in (arrays or {}).items()} | members
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, method, 1)
    return buffer.getvalue()


def npz_bytes(**arrays):
    """Make a `.npz` file of arrays."""
    return make_npz({}, arrays={name: np.asarray(array) for name, array in arrays.items()})


def fits_files(images, bands, columns):
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


def hdf5_files(images, spec, columns):
    """Make HDF5 files: as we write them, as Hayat et al. do, with the bands first, and packed."""
    theirs = {"images": np.moveaxis(images, -1, 1), "e_bv": columns["ebv"], "specz_redshift": columns["z_spec"]}
    packed = {"compression": "gzip", "chunks": (1, *images.shape[1:])}
    return {
        "ours": _hdf5({"images": images, **columns}, json.dumps(asdict(spec))),
        "bands first": _hdf5(theirs, "null"),
        "packed": _hdf5({"images": images}, "null", **packed),
        "without images": _hdf5(columns, "null"),
    }


def _hdf5(columns, spec, **options):
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        file.attrs["image_spec"] = spec
        for name, values in columns.items():
            values = values.astype(h5py.string_dtype()) if np.asarray(values).dtype.kind == "U" else values
            file.create_dataset(name, data=values, **options)
    return buffer.getvalue()
