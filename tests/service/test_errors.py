"""Errors: what is refused, with which status and message, and their one shape."""

import io
import struct
import zipfile

import numpy as np
import pytest

from photoz.io import npz
from photoz.protocol import contract
from tests.service.helpers import check_error
from tests.toys import npy_bytes


def test_wrong_shape(post_npy, card, images):
    size, n_bands = card.image.size, len(card.image.bands)
    check_error(
        post_npy("/predict_file", images[:, 1:]), 422, f"(n, {size}, {size}, {n_bands})", ",".join(card.image.bands)
    )
    check_error(post_npy("/predict_file", images[None]), 422, "expected images of shape")


def test_bands_first(post_npy, images):
    check_error(post_npy("/predict_file", np.moveaxis(images, -1, 1)), 422, "numpy.moveaxis(images, -3, -1)")


def test_cutout_without_finite_pixels(post_npy, images):
    empty = images.copy()
    empty[2] = np.nan
    check_error(post_npy("/predict_file", empty), 422, "cutout 2 has no finite pixel")


def test_no_cutouts(client, post_npy, images):
    check_error(post_npy("/predict_file", images[:0]), 422, "at least one cutout")
    check_error(client.post("/predict", json={"images": []}), 422, "expected images of shape")


@pytest.mark.parametrize("dtype", ["U5", "?", "c8", "M8[s]"])
def test_images_that_are_not_real_numbers(post_npy, images, dtype):
    check_error(post_npy("/predict_file", np.zeros(images.shape, dtype)), 422, "real numbers")


@pytest.mark.parametrize(
    ("message", "status", "words"),
    [
        ({}, 422, ["images: field required"]),
        ({"images": [[[["a"]]]]}, 422, ["images.0.0.0.0", "valid number", "'a'"]),
        ({"images": [[[["1.5"]]]]}, 422, ["valid number"]),
        ({"images": [[[[True]]]]}, 422, ["valid number"]),
        ({"images": [[[[1], [1, 2]]]]}, 422, ["regular array"]),
        ({"images": 3}, 422, ["images", "valid list"]),
        ({"images": [[[[1]]]], "image": 1}, 422, ["image: extra inputs are not permitted"]),
        ({"images": [[[[1]]]], "ebv": "0.1"}, 422, ["ebv", "'0.1'"]),
        ({"images": [[[[1]]]], "object_id": ["a" * 257]}, 422, ["object_id.0", "at most 256 characters"]),
        ([], 422, ["JSON object"]),
    ],
)
def test_unusable_json(client, message, status, words):
    check_error(client.post("/predict", json=message), status, *words)


@pytest.mark.parametrize("body", [b"{", b"[1, 2", b"\xff", b"[" * 100_000])
def test_malformed_json(client, body):
    check_error(client.post("/predict", content=body), 400, "not JSON")


@pytest.mark.parametrize("ebv", [-0.1, 10.1, np.inf])
def test_ebv_out_of_range(post_npz, images, ebv):
    check_error(post_npz("/predict_file", {"images": images, "ebv": np.full(len(images), ebv)}), 422, "0 <= ebv <= 10")


def test_arrays_of_wrong_length_or_type(post_npz, images):
    n = len(images)
    check_error(post_npz("/predict_file", {"images": images, "ebv": np.zeros(n + 1)}), 422, f"one for each of {n}")
    check_error(post_npz("/predict_file", {"images": images, "ebv": np.array(["0.1"] * n)}), 422, "ebv as real numbers")
    check_error(post_npz("/predict_file", {"images": images, "object_id": np.array(["a"])}), 422, f"{n} names")
    check_error(post_npz("/predict_file", {"cutouts": images}), 422, "'images'", "cutouts")


def test_long_object_id(post_npz, images):
    names = np.array([f"{i}" for i in range(len(images))], dtype="U300")  # only what is used of it counts
    assert post_npz("/predict_file", {"images": images, "object_id": names}).status_code == 200
    names[1] = "a" * 257
    response = post_npz("/predict_file", {"images": images, "object_id": names})
    check_error(response, 422, "expected object_id of at most 256 characters, got one of 257")


def test_pickled_arrays_are_never_opened(client, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    trap = np.array([Trap()], dtype=object)
    check_error(client.post("/predict_file", content=npy_bytes(trap, allow_pickle=True)), 400, "allow_pickle=False")
    buffer = io.BytesIO()
    np.savez(buffer, images=trap)
    check_error(client.post("/predict_file", content=buffer.getvalue()), 400, "allow_pickle=False")
    assert not (tmp_path / "opened").exists()


def npy_with_header(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "header",
    [b"{{{{{{{{", b"", b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 30 + b",)}", b"\x00" * 20],
)
def test_damaged_npy_header(client, header):
    check_error(client.post("/predict_file", content=npy_with_header(header)), 400, ".npy")


def test_truncated_files(client, images):
    for content in (npy_bytes(images), npz.npz_bytes({"images": images})):
        for length in (4, 100, len(content) // 2):
            check_error(client.post("/predict_file", content=content[:length]), 400)


def test_damaged_archives(client, images):
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("images.npy", npy_bytes(images))
        content = bytearray(buffer.getvalue())
        content[150:300] = bytes(b ^ 0x5A for b in content[150:300])
        check_error(client.post("/predict_file", content=bytes(content)), 400, "not a readable .npz file")


def test_too_many_pdfs(post_npz, card):
    pdfs = np.ones((25 * 4096 + 1, card.grid.n_bins), np.float16)
    check_error(post_npz("/evaluate", {"pdfs": pdfs, "z_spec": np.full(len(pdfs), 0.1)}), 413, "102,400", "102,401")


def test_unknown_file_format(client):
    check_error(client.post("/predict_file", content=b"SIMPLE  =  T"), 400, ".npy or .npz", "SIMPLE")
    check_error(client.post("/predict_file", content=b""), 400, ".npy or .npz")


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


def test_errors_name_the_model(post_npy, images, card):
    response = post_npy("/predict_file", images[:0])
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
