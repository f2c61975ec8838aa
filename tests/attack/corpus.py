"""Well-formed request bodies for a small model: the seeds of the mutations and of the fuzzer."""

import json
from pathlib import Path

import numpy as np

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.model.card import Card
from photoz.protocol.open_inference import encode_request
from photoz.protocol.tensors import Tensor
from service.validation import unpacked_limit
from tests.attack import files
from tests.attack.files import make_npz, npy_bytes

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
COLUMNS = {"ebv": EBV, "object_id": NAMES, "z_spec": Z_SPEC}
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
    """FITS files of each layout."""
    return [*files.fits_files(IMAGES, SPEC.bands, COLUMNS | {"object_id": ["NGC 1", "b"]}).values()]


def hdf5_files() -> list[bytes]:
    """HDF5 files that can be read."""
    return [*files.hdf5_files(IMAGES, SPEC, COLUMNS).values()][:3]
