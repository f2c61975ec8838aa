"""`/predict` and `/predict_file`: formats and estimates; and the errors of all endpoints."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest

from photoz import estimates
from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.inference.predictor import Predictor
from photoz.io import formats, npz, tables
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz.protocol import contract
from service.formats.negotiation import OCTETS
from tests.service.helpers import check_error
from tests.toys import npy_bytes, toy_batch

EBV = 0.03


def test_estimates_are_those_of_the_model_in_this_process(client, bundle_path, card, images):
    expected = Predictor.load(ModelBundle.load(bundle_path)).predict(toy_batch(images, card, np.array(EBV)))
    response = client.post("/predict", json={"images": images.tolist(), "ebv": EBV, "pdf": True})
    answer = contract.PredictResponse.model_validate_json(response.content)
    assert response.headers["content-type"] == "application/json"
    assert response.headers[contract.MODEL_HEADER] == answer.model == f"{card.name} {card.version}"
    assert answer.object_id == [str(i) for i in range(len(images))]
    for name in {*COLUMNS, "pdf"} - {"object_id", "flags"}:
        np.testing.assert_allclose(getattr(answer, name), getattr(expected, name), atol=1e-6)


def test_npy_npz_and_json_give_the_same_estimates(client, post_npy, post_npz, images):
    by_json = client.post("/predict", json={"images": images.tolist(), "ebv": EBV}).json()
    assert post_npy(f"/predict_file?ebv={EBV}", images).json() == by_json
    assert post_npz("/predict_file", {"images": images, "ebv": np.full(len(images), EBV)}).json() == by_json


FORM = "application/x-www-form-urlencoded"  # what curl sends by default


@pytest.mark.parametrize(
    "media_type", [OCTETS, formats.NPY.media_type, formats.NPZ.media_type, "Application/X-NPY; v=1", FORM]
)
def test_first_bytes_tell_the_format(client, images, media_type):
    for content in (npy_bytes(images), npz.npz_bytes({"images": images})):
        response = client.post("/predict_file", content=content, headers={"content-type": media_type})
        assert response.status_code == 200


def as_columns(response, n_bins):
    """Read a response in any of the three media types."""
    match response.headers["content-type"].partition(";")[0]:
        case formats.JSON.media_type:
            columns = {name: values for name, values in response.json().items() if name != "model"}
        case formats.NPZ.media_type:
            columns = npz.read_arrays(io.BytesIO(response.content))
        case formats.CSV.media_type:
            header, *rows = csv.reader(io.StringIO(response.text))
            columns = dict(zip(header, zip(*rows, strict=True), strict=True))
            columns["pdf"] = np.transpose([columns.pop(f"pdf_{i}") for i in range(n_bins)])
    names = list(columns.pop("object_id"))
    return names, {name: np.array(column, float) for name, column in columns.items()}


def test_json_npz_and_csv_responses_have_the_same_columns(post_npz, card, images):
    arrays = {"images": images, "object_id": np.array([f'galaxy, "{i}"' for i in range(len(images))])}
    _, first = as_columns(post_npz("/predict_file?pdf=true", arrays), card.grid.n_bins)
    for accept in (formats.JSON.media_type, formats.NPZ.media_type, formats.CSV.media_type):
        response = post_npz("/predict_file?pdf=true", arrays, accept=accept)
        names, columns = as_columns(response, card.grid.n_bins)
        assert names == arrays["object_id"].tolist()
        assert ["object_id", *columns] == [*COLUMNS, "pdf"]
        for name, column in columns.items():
            np.testing.assert_array_equal(column, first[name])


def test_unknown_ood_score_is_null_or_empty(card):
    n_bins = card.grid.n_bins
    table = estimates.from_pdfs(np.full((2, n_bins), 1 / n_bins), card.grid)
    table.ood_score[0] = 0.5
    assert json.loads(tables.json_bytes(table, "model"))["ood_score"] == [0.5, None]
    rows = csv.DictReader(io.StringIO(tables.csv_bytes(table).decode()))
    assert [row["ood_score"] for row in rows] == ["0.5", ""]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", formats.JSON.media_type),
        ("text/*", formats.CSV.media_type),
        ("text/csv;q=0.5, application/x-npz", formats.NPZ.media_type),
        ("application/json;q=0, */*;q=0.1", formats.CSV.media_type),
    ],
)
def test_accept_header_chooses_the_media_type(post_npy, images, accept, media_type):
    response = post_npy("/predict_file", images, accept=accept)
    assert response.headers["content-type"].partition(";")[0] == media_type


def test_one_cutout_needs_no_first_axis(client, post_npy, images):
    answer = post_npy("/predict_file", images[:1]).json()
    assert post_npy("/predict_file", images[0]).json() == answer
    content = json.dumps({"images": images[0].tolist()})
    assert client.post("/predict", content=content, headers={"content-type": FORM}).json() == answer


def test_masked_pixels_missing_bands_and_unknown_ebv_raise_flags(client, card, images):
    changed = images[:3].copy()
    changed[2, :, :, 0] = 0.0
    pixels = changed.tolist()
    pixels[1][0][0][0] = None
    flags = client.post("/predict", json={"images": pixels, "ebv": [0.02, None, 0.02]}).json()["flags"]
    assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags] == [False, True, False]
    assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags] == [False, card.inputs.ebv, False]
    assert [bool(flag & Flag.BAND_MISSING) for flag in flags] == [False, False, True]


def test_wide_names_and_other_arrays_of_a_file_are_accepted(post_npz, images):
    names = np.arange(len(images)).astype("U300")  # wider than names may be, but not used
    arrays = {"images": images, "object_id": names, "z_spec": np.zeros(len(images)), "split": np.array("test")}
    assert post_npz("/predict_file", arrays).json() == post_npz("/predict_file", {"images": images}).json()


def test_model_is_the_card(client, card):
    response = client.get("/model")
    assert Card.model_validate_json(response.content) == card
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


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
        ({"images": lambda a: np.moveaxis(a, -1, 1)}, ["numpy.moveaxis(images, -3, -1)"]),
        ({"images": lambda a: a[:0]}, ["at least one cutout"]),
        ({"images": lambda a: np.full_like(a, np.nan)}, ["cutout 0 has no finite pixel"]),
        ({"images": lambda a: np.zeros(a.shape, "U5")}, ["real numbers"]),
        ({"images": lambda a: np.full_like(a, 3e38)}, ["NaN for galaxy 0", "overflow the network"]),
        ({"ebv": lambda a: np.full(len(a), -0.1)}, ["0 <= ebv <= 10"]),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, ["or as 6, one for each cutout"]),
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


def test_damaged_files(client, images):
    def check(content, *words):
        check_error(client.post("/predict_file", content=content), 400, *words)

    check(b"GIF89a", ".npy, .npz, FITS or HDF5 file", "GIF89a")
    check(b"", ".npy, .npz, FITS or HDF5 file")
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
        ("/predict_file", formats.JSON.media_type, "/predict"),
        ("/evaluate", "text/csv", formats.NPZ.media_type),
        ("/predict", "application/vnd.bentoml+pickle", "not allowed"),
    ],
)
def test_unsupported_content_type(client, path, media_type, expected):
    check_error(client.post(path, content=b"x", headers={"content-type": media_type}), 415, expected)


@pytest.mark.parametrize("path", ["/predict", "/predict_file", "/evaluate"])
def test_compressed_body_is_refused(client, path):
    response = client.post(path, content=b"{}", headers={"content-encoding": "gzip"})
    check_error(response, 415, "cannot read Content-Encoding gzip here: expected the body as it is")


def test_unacceptable_accept_header(post_npy, post_npz, card, images):
    check_error(post_npy("/predict_file", images, accept="image/png"), 406, "image/png", formats.CSV.media_type)
    pdfs = np.ones((1, card.grid.n_bins))
    check_error(
        post_npz("/evaluate", {"pdfs": pdfs, "z_spec": np.array([0.1])}, accept="text/csv"),
        406,
        formats.HTML.media_type,
    )
    check_error(post_npz("/evaluate?plot=pit", {"pdfs": pdfs}, accept="text/html"), 406, formats.SVG.media_type)


def test_unknown_options(client, post_npy, images):
    check_error(post_npy("/predict_file?pdfs=true", images), 422, "?pdfs", "pdf, ebv")
    check_error(post_npy("/predict_file?pdf=perhaps", images), 422, "pdf", "'perhaps'")
    check_error(client.post("/predict?pdf=true", json={"images": images[:1].tolist()}), 422, "?pdf")
    check_error(client.post("/evaluate?plot=sculpture", json={}), 422, "scatter", "'sculpture'")


def test_unknown_paths_and_methods(client):
    check_error(client.get("/nothing"), 404, "/nothing", "/docs.json")
    check_error(client.get("/predict"), 405, "/predict", "GET")
    assert client.get("/predict").headers["allow"] == "POST"


def test_names_may_be_integers_but_have_no_nul(client, post_npz, images):
    cutouts = images[:2].tolist()
    answer = client.post("/predict", json={"images": cutouts, "object_id": [17, 2**60]})
    assert answer.json()["object_id"] == ["17", str(2**60)]
    answer = client.post("/predict", json={"images": cutouts, "object_id": ["a\0", "a"]})
    check_error(answer, 422, "expected object_id as text, got a NUL character")
