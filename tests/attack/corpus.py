"""Well-formed request bodies for a small model: the seeds of the mutations and of the fuzzer."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.model.card import Card
from photoz.protocol.open_inference import encode_request
from photoz.protocol.tensors import Tensor
from service.validation import unpacked_limit

ROOT = Path(__file__).parents[2]
MB = 2**20

MAX_ROWS = 16
# The smallest cutouts that are allowed: a whole request is as small as the inputs of a fuzzer.
SPEC = ImageSpec(size=8, bands="gr")
GRID = RedshiftGrid(0.4, 10)
SHIPPED_CARD = Card.model_validate_json((ROOT / "models" / "photoz" / "card.json").read_bytes())
CARD = SHIPPED_CARD.model_copy(update={"image": SPEC, "grid": GRID})
MAX_BYTES = unpacked_limit(CARD, MAX_ROWS)

IMAGES = np.random.default_rng(0).normal(size=(2, *SPEC.shape)).astype(np.float32).round(1)
NAMES = np.array(["NGC 1", "é"])
EBV = np.array([0.01, np.nan], np.float32)
Z_SPEC = np.array([0.1, 0.3])
PDFS = np.full((2, GRID.n_bins), 1 / GRID.n_bins)


INPUTS = [Tensor.of("images", IMAGES), Tensor.of("ebv", EBV), Tensor.of("object_id", NAMES)]
INFER_MESSAGES = [
    *(encode_request(INPUTS, ["z_mean", "pdf"], binary=binary, request_id="7") for binary in (True, False)),
    *(encode_request([Tensor("images", datatype, IMAGES[:1])]) for datatype in ("FP16", "INT8", "UINT64")),
]


def _json(**content: object) -> bytes:
    return json.dumps(content).encode()


PREDICT_BODIES = [
    _json(images=IMAGES.tolist(), ebv=[0.1, None], object_id=NAMES.tolist(), pdf=True),
    _json(images=IMAGES[0].tolist(), ebv=0.1),
]
EVALUATE_BODIES = [
    _json(z_spec=Z_SPEC.tolist(), pdfs=PDFS.tolist(), magnitudes=[17, None]),
    _json(z_spec=[0.1, None], images=IMAGES.tolist(), object_id=NAMES.tolist()),
]


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npy_with_header(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    """Make a `.npy` file with any text as its header."""
    length = (len(header) + 1).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + b"\n" + data


def make_npz(
    members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, arrays: Mapping[str, np.ndarray] | None = None
) -> bytes:
    """Make a `.npz` file of raw members and of those arrays that are not among them."""
    buffer = io.BytesIO()
    contents = {f"{name}.npy": npy_bytes(array) for name, array in (arrays or {}).items()} | dict(members)
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_files() -> list[bytes]:
    """`.npy` files of cutouts in several number types, byte orders and memory layouts."""
    arrays = [*(IMAGES.astype(dtype) for dtype in ("<f4", ">f8", "<f2", ">i2", "u1")), np.asfortranarray(IMAGES)]
    return [npy_bytes(array) for array in (*arrays, IMAGES[0])]


def npz_files(method: int) -> list[bytes]:
    """A `.npz` file for `/predict_file` and two for `/evaluate`."""
    contents = (
        {"images": IMAGES, "ebv": EBV, "object_id": NAMES},
        {"z_spec": Z_SPEC, "pdfs": PDFS, "object_id": np.array([1, 2])},
        {"z_spec": Z_SPEC, "images": IMAGES, "magnitudes": np.ones((2, 2))},
    )
    return [make_npz({}, method, arrays) for arrays in contents]


def fits_files() -> list[bytes]:
    """FITS files of each layout: a cube, a table, an image for each galaxy, and one for each band."""
    first = np.moveaxis(IMAGES, -1, 1)
    header = fits.Header({"BANDS": "gr", "BUNIT": "nJy", "CTYPE1": "RA---TAN", "CDELT1": -1.1e-4, "CDELT2": 1.1e-4})
    table = Table({"IMAGE": first, "EBV": EBV, "OBJECT_ID": ["NGC 1", "b"], "Z_SPEC": Z_SPEC})
    one_each = [fits.ImageHDU(pixels, header, name=f"G{row}") for row, pixels in enumerate(first)]
    bands = [fits.ImageHDU(pixels, name=band) for band, pixels in zip(SPEC.bands, first[0], strict=True)]
    layouts = (
        [fits.PrimaryHDU(first, header)],
        [fits.PrimaryHDU(first.astype(">i2"), header)],
        [fits.PrimaryHDU(), fits.table_to_hdu(table)],
        [fits.PrimaryHDU(), *one_each],
        [fits.PrimaryHDU(), *bands],
    )
    return [_fits_bytes(hdus) for hdus in layouts]


def _fits_bytes(hdus: list[fits.PrimaryHDU]) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


def hdf5_files() -> list[bytes]:
    """HDF5 files: as we write them, and as Hayat et al. do, with the bands first."""
    text = h5py.string_dtype()
    ours = {"images": IMAGES, "ebv": EBV, "z_spec": Z_SPEC, "object_id": NAMES.astype(object)}
    theirs = {"images": np.moveaxis(IMAGES, -1, 1), "e_bv": EBV, "specz_redshift": Z_SPEC}
    packed = {"images": IMAGES}
    made = []
    for columns in (ours, theirs, packed):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.attrs["image_spec"] = json.dumps(asdict(SPEC)) if columns is ours else "null"
            for name, values in columns.items():
                options = {"compression": "gzip", "chunks": (1, *SPEC.shape)} if columns is packed else {}
                file.create_dataset(name, data=values, dtype=text if values.dtype == object else None, **options)
        made.append(buffer.getvalue())
    return made
