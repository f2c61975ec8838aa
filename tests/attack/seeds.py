"""Well-formed bodies of every kind, made by code: where mutations begin."""

import gzip
import json
import zlib
from collections.abc import Iterator

import numpy as np
from targets import GRID, NO_HEADER, SPEC, npy, packed

from photoz.protocol.open_inference import encode_request
from photoz.protocol.tensors import Tensor

IMAGES = np.random.default_rng(0).normal(size=(2, *SPEC.shape)).astype(np.float32).round(1)
NAMES = np.array(["NGC 1", "é"])
EBV = np.array([0.01, np.nan], np.float32)
Z_SPEC = np.array([0.1, 0.3])
PDFS = np.full((2, GRID.n_bins), 1 / GRID.n_bins)


def inference_requests() -> Iterator[tuple[bytes, int | None]]:
    """Yield bodies for `/v2/models/{name}/infer`, and where their JSON ends."""
    inputs = [Tensor.of("images", IMAGES), Tensor.of("ebv", EBV), Tensor.of("object_id", NAMES)]
    for binary in (True, False):
        message = encode_request(inputs, ["z_mean", "pdf"], binary=binary, request_id="7")
        yield message.body, message.header_length
    for datatype in ("FP16", "INT8", "UINT64"):
        message = encode_request([Tensor("images", datatype, IMAGES[:1])])
        yield message.body, message.header_length


def predict_bodies() -> Iterator[bytes]:
    """Yield the JSON of `/predict`."""
    yield json.dumps({"images": IMAGES.tolist(), "ebv": [0.1, None], "object_id": NAMES.tolist(), "pdf": True}).encode()
    yield json.dumps({"images": IMAGES[0].tolist(), "ebv": 0.1}).encode()


def evaluate_bodies() -> Iterator[bytes]:
    """Yield the JSON of `/evaluate`."""
    yield json.dumps({"z_spec": Z_SPEC.tolist(), "pdfs": PDFS.tolist(), "magnitudes": [17, None]}).encode()
    yield json.dumps({"z_spec": [0.1, None], "images": IMAGES.tolist(), "object_id": NAMES.tolist()}).encode()


def npy_files() -> Iterator[bytes]:
    """Yield `.npy` files of cutouts: types, byte orders, layouts."""
    for dtype in ("<f4", ">f8", "<f2", ">i2", "u1"):
        yield npy(IMAGES.astype(dtype))
    yield npy(np.asfortranarray(IMAGES))
    yield npy(IMAGES[0])


def npz_files() -> Iterator[bytes]:
    """Yield `.npz` files, stored and deflated, for `/predict_file` and `/evaluate`."""
    columns = {"ebv": EBV, "object_id": NAMES}
    for method in (0, 8):
        yield packed({}, method, {"images": IMAGES, **columns})
        yield packed({}, method, {"z_spec": Z_SPEC, "pdfs": PDFS, "object_id": np.array([1, 2])})
        yield packed({}, method, {"z_spec": Z_SPEC, "images": IMAGES, "magnitudes": np.ones((2, 2))})


def fuzz_seeds(target: str) -> list[bytes]:
    """Return inputs of a target of the fuzzer."""
    match target:
        case "v2":
            return [
                (NO_HEADER if length is None else length).to_bytes(2, "little") + body
                for body, length in inference_requests()
            ]
        case "file":
            names, ebv = npy(np.array([b"a", b"b"])), npy(EBV)
            members = [kind + body for body in npy_files() for kind in (b"i", b"I")]
            header = b"h{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8, 8, 2), }\n" + IMAGES.tobytes()
            files = [b"-" + body for body in (*npy_files(), *npz_files())]
            return [*files, *members, header, b"o" + names, b"e" + ebv, b"z" + npy(Z_SPEC)]
        case "json":
            return [*predict_bodies(), *evaluate_bodies()]
        case "compression":
            plain = IMAGES.tobytes()
            return [gzip.compress(plain, mtime=0), zlib.compress(plain), gzip.compress(bytes(10**6), mtime=0)]
        case _:
            raise ValueError(f"there is no target {target}")
