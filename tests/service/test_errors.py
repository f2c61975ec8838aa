"""Errors: what is refused, with which status and message, and their one shape."""

import io
import zipfile

import numpy as np
import pytest

from photoz.io import npz
from photoz.protocol import contract
from tests.service.helpers import check_error
from tests.toys import npy_bytes


def test_wrong_shape(post_npy, card, images):
    size, bands = card.image.size, card.image.bands
    response = post_npy("/predict_file", images[:, 1:])
    check_error(
        response, 422, f"expected images of shape (n, {size}, {size}, {len(bands)}) with bands {','.join(bands)}"
    )
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": lambda a: a[None]}, ["expected images of shape"]),
        ({"images": lambda a: np.moveaxis(a, -1, 1)}, ["numpy.moveaxis(images, -3, -1)"]),
        ({"images": lambda a: a[:0]}, ["at least one cutout"]),
        ({"images": lambda a: np.full_like(a, np.nan)}, ["cutout 0 has no finite pixel"]),
        ({"images": lambda a: np.zeros(a.shape, "U5")}, ["real numbers"]),
        ({"images": lambda a: np.zeros(a.shape, "c8")}, ["real numbers"]),
        ({"images": lambda a: np.full_like(a, 3e38)}, ["NaN for galaxy 0", "overflow the network"]),
        ({"ebv": lambda a: np.full(len(a), -0.1)}, ["0 <= ebv <= 10"]),
        ({"ebv": lambda a: np.full(len(a), np.inf)}, ["0 <= ebv <= 10"]),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, ["one for each of 6"]),
        ({"ebv": lambda a: np.full(len(a), "0.1")}, ["ebv as real numbers"]),
        ({"images": lambda a: None, "cutouts": lambda a: a}, ["'images'", "cutouts"]),
        ({"object_id": lambda a: np.array(["a"])}, ["6 names"]),
        ({"object_id": lambda a: np.full(len(a), "a" * 257)}, ["at most 256 characters, got one of 257"]),
    ],
)
def test_unusable_arrays(post_npz, images, change, words):
    arrays = {"images": images} | {name: make(images) for name, make in change.items()}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    check_error(post_npz("/predict_file", arrays), 422, *words)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"images": [[[["a"]]]]}, ["images.0.0.0.0", "valid number", "'a'"]),
        ({"images": [[[["1.5"]]]]}, ["valid number"]),
        ({"images": [[[[1], [1, 2]]]]}, ["regular array"]),
        ({"images": 3}, ["images", "valid list"]),
        ({"images": []}, ["expected images of shape"]),
        ({"images": [[[[1]]]], "image": 1}, ["image: extra inputs are not permitted"]),
        ({"images": [[[[1]]]], "ebv": "0.1"}, ["ebv", "'0.1'"]),
        ({"images": [[[[1]]]], "object_id": ["a" * 257]}, ["object_id.0", "at most 256 characters"]),
        ([], ["JSON object"]),
    ],
)
def test_unusable_json(client, message, words):
    check_error(client.post("/predict", json=message), 422, *words)


@pytest.mark.parametrize("body", [b"{", b"[1, 2", b"\xff", b"[" * 100_000])
def test_malformed_json(client, body):
    check_error(client.post("/predict", content=body), 400, "not JSON")


def test_pickled_arrays_are_never_opened(client, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    trap, buffer = np.array([Trap()], dtype=object), io.BytesIO()
    np.savez(buffer, images=trap)
    for content in (npy_bytes(trap, allow_pickle=True), buffer.getvalue()):
        check_error(client.post("/predict_file", content=content), 400, "allow_pickle=False")
    assert not (tmp_path / "opened").exists()


def test_damaged_files(client, images):
    def check(content, *words):
        check_error(client.post("/predict_file", content=content), 400, *words)

    check(b"SIMPLE  =  T", ".npy or .npz", "SIMPLE")
    check(b"", ".npy or .npz")
    check(b"\x93NUMPY\x01\x00\x04\x00{{{{", ".npy")
    for content in (npy_bytes(images), npz.npz_bytes({"images": images})):
        for length in (4, 100, len(content) // 2):
            check(content[:length])
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("images.npy", npy_bytes(images))
        content = bytearray(buffer.getvalue())
        content[150:300] = bytes(b ^ 0x5A for b in content[150:300])
        check(bytes(content), "not a readable .npz file")


@pytest.mark.parametrize(
    ("path", "media_type", "expected"),
    [
        ("/predict", "text/plain", "application/json"),
        ("/predict", contract.NPZ, "/predict_file"),
        ("/predict_file", contract.JSON, "/predict"),
        ("/predict_file", "multipart/form-data; boundary=x", contract.NPY),
        ("/evaluate", "text/csv", contract.NPZ),
        ("/predict", "application/vnd.bentoml+pickle", "not allowed"),
    ],
)
def test_unsupported_content_type(client, path, media_type, expected):
    check_error(client.post(path, content=b"x", headers={"content-type": media_type}), 415, expected)


def test_unacceptable_accept_header(post_npy, post_npz, card, images):
    check_error(post_npy("/predict_file", images, accept="image/png"), 406, "image/png", contract.CSV)
    check_error(post_npy("/predict_file", images, accept="*/*;q=0"), 406)
    pdfs = np.ones((1, card.grid.n_bins))
    check_error(post_npz("/evaluate", {"pdfs": pdfs, "z_spec": np.array([0.1])}, accept="text/csv"), 406, contract.HTML)
    check_error(post_npz("/evaluate?plot=pit", {"pdfs": pdfs}, accept="text/html"), 406, contract.SVG)


def test_unknown_options(client, post_npy, images):
    check_error(post_npy("/predict_file?pdfs=true", images), 422, "?pdfs", "pdf, ebv")
    check_error(post_npy("/predict_file?pdf=perhaps", images), 422, "pdf", "'perhaps'")
    check_error(client.post("/predict?pdf=true", json={"images": images[:1].tolist()}), 422, "?pdf")
    check_error(client.post("/evaluate?plot=sculpture", json={}), 422, "scatter", "'sculpture'")
    check_error(client.post("/evaluate?num_images=0", json={}), 422, "num_images")


def test_unknown_paths_and_methods(client):
    check_error(client.get("/nothing"), 404, "/nothing", "/docs.json")
    check_error(client.get("/predict"), 405, "/predict", "GET")
    check_error(client.post("/model"), 405, "/model", "POST")
    assert client.get("/predict").headers["allow"] == "POST"
