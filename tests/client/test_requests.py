"""The requests that the client sends, decoded with the core's own readers."""

import io
import tracemalloc

import numpy as np
import pytest

from photoz.errors import InvalidEbv, InvalidImages, InvalidInput
from photoz.estimates import COLUMNS
from photoz.io.npz import read_arrays
from photoz.protocol.open_inference import HEADER_LENGTH, RequestedOutput
from photoz_client import _inputs, _requests
from photoz_client._inputs import BYTES_PER_REQUEST, ROWS_PER_REQUEST, EvaluateInputs, PredictInputs, rows_per_request
from tests.client import answers

ESTIMATES = [name for name in COLUMNS if name != "object_id"]


def _requests_for(images, ebv=None, object_id=None, pdf=False):
    inputs = PredictInputs.of(images, ebv, object_id)
    return (_requests.predict_request(inputs.read(rows), "photoz", pdf, rows.start) for rows in inputs.parts())


def _sent(request):
    inputs = answers.decode(request.content, request.headers).inputs
    return {name: tensor.array for name, tensor in inputs.items()}


def _images(n, size=8, bands=2, dtype=np.float32):
    return np.arange(n * size * size * bands).reshape(n, size, size, bands).astype(dtype)


@pytest.mark.parametrize(("pdf", "outputs"), [(False, ESTIMATES), (True, [*ESTIMATES, "pdf"])])
def test_predict_request_holds_binary_tensors_without_names(pdf, outputs):
    (request,) = _requests_for(_images(3), ebv=[0.1, 0.2, 0.3], object_id=["a", "b", "c"], pdf=pdf)
    assert (request.method, request.path, request.params) == ("POST", answers.INFER_PATH, {})
    asked = answers.decode(request.content, request.headers).outputs
    assert asked == tuple(RequestedOutput(name, binary=True) for name in outputs)
    assert request.headers.keys() == {"Accept", "Content-Type", HEADER_LENGTH}
    assert request.headers["Accept"] == request.headers["Content-Type"] == answers.OCTETS
    sent = _sent(request)
    assert sorted(sent) == ["ebv", "images"]
    np.testing.assert_array_equal(sent["images"], _images(3))
    np.testing.assert_array_equal(sent["ebv"], np.float32([0.1, 0.2, 0.3]))
    assert int(request.headers[HEADER_LENGTH]) % 8 == 0  # aligned, so that numpy can use the pixels without a copy


def test_many_cutouts_are_sent_in_parts_that_make_up_the_whole():
    n = 2 * ROWS_PER_REQUEST + 1
    images, ebv = _images(n, size=1), np.linspace(0.0, 1.0, n)
    requests = list(_requests_for(images, ebv))
    sent = [_sent(request) for request in requests]
    assert [len(part["images"]) for part in sent] == [ROWS_PER_REQUEST, ROWS_PER_REQUEST, 1]
    assert [request.first_row for request in requests] == [0, ROWS_PER_REQUEST, 2 * ROWS_PER_REQUEST]
    np.testing.assert_array_equal(np.concatenate([part["images"] for part in sent]), images)
    np.testing.assert_array_equal(np.concatenate([part["ebv"] for part in sent]), ebv.astype(np.float32))


def test_requests_with_large_cutouts_stay_below_the_limit_of_bytes():
    n_rows = rows_per_request((100, 1000, 1000, 3))
    assert n_rows * 12e6 <= BYTES_PER_REQUEST < (n_rows + 1) * 12e6
    assert rows_per_request((9, 10_000, 10_000, 5)) == 1


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [("f8", "f4"), ("i8", "f4"), ("f4", "f4"), (">f4", ">f4"), ("f2", "f2"), ("i2", "i2"), ("u1", "u1")],
)
def test_pixels_keep_their_values_and_types_up_to_float32(dtype, sent):
    images = np.array([[0, 1], [2, 100]], dtype=dtype)
    pixels = _inputs.as_pixels(images)
    assert pixels.dtype == np.dtype(sent)
    np.testing.assert_array_equal(pixels, images)
    (request,) = _requests_for(np.asfortranarray(images.reshape(2, 1, 1, 2)))
    assert _sent(request)["images"].dtype == np.dtype(sent).newbyteorder("<")
    np.testing.assert_array_equal(_sent(request)["images"].ravel(), images.ravel())


def test_masked_pixels_and_ebv_are_sent_as_nan():
    images = np.ma.masked_equal(_images(2, dtype=int), 5)
    ebv = np.ma.MaskedArray([0.1, 1e20], mask=[False, True])
    (request,) = _requests_for(images, ebv)
    assert np.isnan(_sent(request)["images"]).sum() == 1
    np.testing.assert_array_equal(_sent(request)["ebv"], np.float32([0.1, np.nan]))
    assert np.isinf(_inputs.as_pixels(np.array([1e300]))).all()  # beyond float32: masked too, without a warning


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 5)), "expected images of shape (n, size, size, n_bands), got (5, 5)"),
        (np.zeros((1, 2, 8, 8, 2)), "got (1, 2, 8, 8, 2)"),
        (np.full((1, 8, 8, 2), None), "expected images of real numbers, got dtype object"),
        (np.zeros((1, 8, 8, 2), complex), "got dtype complex128"),
        ([[1.0, 2.0], [3.0]], "do not form a regular array"),
    ],
)
def test_unusable_images_are_refused_by_the_client(images, message):
    with pytest.raises(InvalidImages) as caught:
        list(_requests_for(images))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"ebv": [0.1] * 4}, InvalidEbv, "or as 3, one for each cutout"),
        ({"ebv": -1.0}, InvalidEbv, "expected 0 <= ebv"),
        ({"object_id": ["a"] * 4}, InvalidInput, "expected 3 object_id"),
        ({"object_id": np.array([b"\xff"] * 3)}, InvalidInput, "expected object_id as text"),
        ({"object_id": ["b" * 256, "a" * 257, "c"]}, InvalidInput, "at most 256 characters, got one of 257"),
    ],
)
def test_unusable_columns_are_refused_by_the_client(columns, kind, message):
    with pytest.raises(kind, match=message):
        PredictInputs.of(_images(3), **columns)


class _HugeSource:
    shape = (100_000_000, 64, 64, 5)

    def __getitem__(self, rows):
        return np.zeros((rows.stop - rows.start, *self.shape[1:]), np.float32)


def test_scalar_ebv_and_default_names_need_no_memory_per_galaxy():
    tracemalloc.start()
    inputs = PredictInputs.of(_HugeSource(), ebv=0.1)
    rows = range(99_999_990, 100_000_000)
    sent, names = inputs.read(rows), inputs.names(np.asarray(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert names.tolist() == [str(row) for row in rows]
    assert sent["ebv"].tolist() == [np.float32(0.1)] * 10


def test_names_of_any_type_become_text():
    for given in (np.array([b"a", b"b"]), np.array(["a", "b"], dtype=object)):
        assert PredictInputs.of(_images(2), object_id=given).names(np.arange(2)).tolist() == ["a", "b"]
    names = PredictInputs.of(_images(2), object_id=[1237648720693755918, 2]).names(np.array([1, 0]))
    assert names.tolist() == ["2", "1237648720693755918"]


def test_evaluate_request_sends_redshifts_and_pdfs_in_full_precision():
    z_spec, pdfs = np.array([0.1, 1 / 3]), np.full((2, 3), 1 / 3)
    request = _requests.evaluate_request(EvaluateInputs(z_spec, pdfs=pdfs, object_id=["a", "b"]))
    sent = read_arrays(io.BytesIO(request.content))
    assert sorted(sent) == ["object_id", "pdfs", "z_spec"]
    np.testing.assert_array_equal(sent["z_spec"], z_spec)
    np.testing.assert_array_equal(sent["pdfs"], pdfs)
    with pytest.raises(InvalidInput, match="expected z_spec as numbers"):
        _requests.evaluate_request(EvaluateInputs(["far away"]))


def test_special_characters_in_the_name_of_the_model_are_quoted():
    request = _requests.predict_request({"images": _images(1)}, "a/b c?")
    assert request.path == "/v2/models/a%2Fb%20c%3F/infer"
