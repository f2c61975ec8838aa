"""Well-formed request bodies for a small model: the seeds of the mutations and of the fuzzer."""

import json

import numpy as np

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.model.card import Card
from photoz.protocol.open_inference import encode_request
from photoz.protocol.tensors import Tensor
from photoz.validation import unpacked_limit
from tests.attack.files import make_npz, npy_bytes
from tests.running import ROOT

MB = 2**20
MAX_ROWS = 16
# The smallest cutouts that are allowed: a whole request is as small as the inputs of a fuzzer.
SPEC = ImageSpec(size=8, bands="gr")
GRID = RedshiftGrid(0.4, 10)
CARD = Card.model_validate_json((ROOT / "models" / "photoz" / "card.json").read_bytes())
CARD = CARD.model_copy(update={"image": SPEC, "grid": GRID})
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


def _json(**content):
    return json.dumps(content).encode()


PREDICT_BODIES = [
    _json(images=IMAGES.tolist(), ebv=[0.1, None], object_id=NAMES.tolist(), pdf=True),
    _json(images=IMAGES[0].tolist(), ebv=0.1),
]
EVALUATE_BODIES = [
    _json(z_spec=Z_SPEC.tolist(), pdfs=PDFS.tolist(), magnitudes=[17, None]),
    _json(z_spec=[0.1, None], images=IMAGES.tolist(), object_id=NAMES.tolist()),
]
# `.npy` files of cutouts in several number types, byte orders and memory layouts.
NPY_FILES = [
    *(npy_bytes(IMAGES.astype(dtype)) for dtype in ("<f4", ">f8", "<f2", ">i2", "u1")),
    *(npy_bytes(array) for array in (np.asfortranarray(IMAGES), IMAGES[0])),
]


def npz_files(method):
    """Make a `.npz` file for `/predict_file` and two for `/evaluate`."""
    contents = (
        {"images": IMAGES, "ebv": EBV, "object_id": NAMES},
        {"z_spec": Z_SPEC, "pdfs": PDFS, "object_id": np.array([1, 2])},
        {"z_spec": Z_SPEC, "images": IMAGES, "magnitudes": np.ones((2, 2))},
    )
    return [make_npz({}, method, arrays) for arrays in contents]
