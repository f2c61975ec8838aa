"""What the client puts on the wire, read back with the core's own readers."""

import io
import tracemalloc

import h5py
import numpy as np
import pytest
import v2_answers
from v2_answers import OCTETS

from photoz.errors import InvalidEbv, InvalidImages, InvalidInput
from photoz.estimates import COLUMNS
from photoz.io.npz import read_arrays
from photoz.protocol.contract import HTML, JSON, NPZ, PNG
from photoz.protocol.open_inference import HEADER_LENGTH, RequestedOutput
from photoz_client import _arrays, _requests
from photoz_client._galaxies import BYTES_PER_REQUEST, ROWS_PER_REQUEST, Galaxies, rows_per_request


def _calls(images, ebv=None, object_id=None, pdf=False):
    galaxies = Galaxies.of(images, ebv, object_id)
    return (_requests.predict_call(galaxies.read(rows), "photoz", pdf, rows.start) for rows in galaxies.parts())


def _asked(call):
    return v2_answers.asked(call.content, call.headers)


def _sent(call):
    """Arrays of a prediction."""
    return {name: tensor.array for name, tensor in _asked(call).inputs.items()}


def _sent_file(call):
    """Arrays of an evaluation."""
    assert call.headers["Content-Type"] == NPZ
    return read_arrays(io.BytesIO(call.content))


def _images(n, size=8, bands=2, dtype=np.float32):
    return np.arange(n * size * size * bands).reshape(n, size, size, bands).astype(dtype)


ESTIMATES = [name for name in COLUMNS if name != "object_id"]


def test_a_few_cutouts_travel_as_binary_tensors_without_their_names():
    (call,) = _calls(_images(3), ebv=[0.1, 0.2, 0.3], object_id=["a", "b", "c"])
    assert (call.method, call.path, call.params) == ("POST", v2_answers.INFER_PATH, {})
    assert call.headers.keys() == {"Accept", "Content-Type", HEADER_LENGTH}
    assert call.headers["Accept"] == call.headers["Content-Type"] == OCTETS
    sent = _sent(call)
    assert sorted(sent) == ["ebv", "images"]
    np.testing.assert_array_equal(sent["images"], _images(3))
    np.testing.assert_array_equal(sent["ebv"], np.float32([0.1, 0.2, 0.3]))
    assert int(call.headers[HEADER_LENGTH]) % 8 == 0  # where numpy can use the pixels as they lie


@pytest.mark.parametrize(("pdf", "outputs"), [(False, ESTIMATES), (True, [*ESTIMATES, "pdf"])])
def test_what_is_asked_for_is_what_a_prediction_holds_beside_the_names(pdf, outputs):
    (call,) = _calls(_images(1), pdf=pdf)
    assert _asked(call).outputs == tuple(RequestedOutput(name, binary=True) for name in outputs)


def test_many_cutouts_travel_in_parts_that_put_together_are_the_whole():
    n = 2 * ROWS_PER_REQUEST + 1
    images, ebv = _images(n, size=1), np.linspace(0.0, 1.0, n)
    calls = list(_calls(images, ebv))
    sent = [_sent(call) for call in calls]
    assert [len(part["images"]) for part in sent] == [ROWS_PER_REQUEST, ROWS_PER_REQUEST, 1]
    assert [call.first_row for call in calls] == [0, ROWS_PER_REQUEST, 2 * ROWS_PER_REQUEST]
    np.testing.assert_array_equal(np.concatenate([part["images"] for part in sent]), images)
    np.testing.assert_array_equal(np.concatenate([part["ebv"] for part in sent]), ebv.astype(np.float32))


def test_large_cutouts_travel_in_parts_of_fewer_bytes_than_the_limit():
    shape = (100, 1000, 1000, 3)
    n_rows = rows_per_request(shape)
    assert n_rows * 12e6 <= BYTES_PER_REQUEST < (n_rows + 1) * 12e6
    assert rows_per_request((9, 10_000, 10_000, 5)) == 1


def test_images_on_disk_are_read_part_by_part(tmp_path):
    images = _images(2 * ROWS_PER_REQUEST, size=2)
    with h5py.File(tmp_path / "cutouts.h5", "w") as file:
        calls = _calls(file.create_dataset("images", data=images))
        np.testing.assert_array_equal(_sent(next(calls))["images"], images[:ROWS_PER_REQUEST])
        file["images"][...] = 0.0  # what was not read yet is read as it stands when its turn comes
        assert not _sent(next(calls))["images"].any()


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [("f8", "f4"), ("i8", "f4"), ("f4", "f4"), (">f4", ">f4"), ("f2", "f2"), ("i2", "i2"), ("u1", "u1")],
)
def test_pixels_travel_no_wider_than_float32_and_with_the_same_values(dtype, sent):
    images = np.array([[0, 1], [2, 100]], dtype=dtype)
    pixels = _arrays.as_pixels(images)
    assert pixels.dtype == np.dtype(sent)
    np.testing.assert_array_equal(pixels, images)
    (call,) = _calls(np.asfortranarray(images.reshape(2, 1, 1, 2)))
    travelled = _sent(call)["images"]
    assert travelled.dtype == np.dtype(sent).newbyteorder("<")
    np.testing.assert_array_equal(travelled.ravel(), images.ravel())


def test_masked_pixels_and_masked_ebv_travel_as_nan():
    images = np.ma.masked_equal(_images(2, dtype=int), 5)
    ebv = np.ma.MaskedArray([0.1, 1e20], mask=[False, True])
    (call,) = _calls(images, ebv)
    assert np.isnan(_sent(call)["images"]).sum() == 1
    np.testing.assert_array_equal(_sent(call)["ebv"], np.float32([0.1, np.nan]))


def test_pixels_beyond_float32_are_masked_without_a_warning():
    assert np.isinf(_arrays.as_pixels(np.array([1e300]))).all()


def test_one_cutout_needs_no_first_axis():
    (call,) = _calls(_images(1)[0], ebv=0.1)
    np.testing.assert_array_equal(_sent(call)["images"], _images(1))
    np.testing.assert_array_equal(_sent(call)["ebv"], np.float32([0.1]))


def test_no_cutouts_at_all_are_left_to_the_service_to_refuse():
    (call,) = _calls(_images(0))
    assert len(_sent(call)["images"]) == 0


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((5, 5)), "expected images of shape (n, size, size, n_bands), got (5, 5)"),
        (np.zeros((1, 2, 8, 8, 2)), "got (1, 2, 8, 8, 2)"),
        (np.full((1, 8, 8, 2), None), "expected images of real numbers, got dtype object"),
        (np.zeros((1, 8, 8, 2), complex), "got dtype complex128"),
        ([[1.0, 2.0], [3.0]], "do not form a regular array"),
    ],
)
def test_images_that_cannot_be_sent_are_refused_here(images, sentence):
    with pytest.raises(InvalidImages) as caught:
        list(_calls(images))
    assert sentence in str(caught.value)


def test_columns_that_do_not_fit_are_refused_before_anything_is_sent():
    with pytest.raises(InvalidEbv, match="one for each of 3 cutouts"):
        Galaxies.of(_images(3), ebv=[0.1] * 4)
    with pytest.raises(InvalidEbv, match="expected 0 <= ebv"):
        Galaxies.of(_images(3), ebv=-1.0)
    with pytest.raises(InvalidInput, match="expected 3 object_id"):
        Galaxies.of(_images(3), object_id=["a"] * 4)
    with pytest.raises(InvalidInput, match="expected object_id as text"):
        Galaxies.of(_images(1), object_id=np.array([b"\xff"]))
    with pytest.raises(InvalidInput, match="at most 256 characters, got one of 257"):
        Galaxies.of(_images(2), object_id=["b" * 256, "a" * 257])


class _Endless:
    """A hundred million cutouts that nobody can hold."""

    shape = (100_000_000, 64, 64, 5)

    def __getitem__(self, rows):
        return np.zeros((rows.stop - rows.start, *self.shape[1:]), np.float32)


def test_one_ebv_and_no_names_take_no_memory_for_each_of_a_hundred_million_galaxies():
    tracemalloc.start()
    galaxies = Galaxies.of(_Endless(), ebv=0.1)
    rows = range(99_999_990, 100_000_000)
    sent, names = galaxies.read(rows), galaxies.names(np.asarray(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert names.tolist() == [str(row) for row in rows]
    np.testing.assert_array_equal(sent["ebv"], np.full(10, 0.1, np.float32))


def test_names_of_any_kind_become_text():
    for given in ([1237648720693755918, 2], np.array([b"a", b"b"]), np.array(["a", "b"], dtype=object)):
        assert Galaxies.of(_images(2), object_id=given).names(np.arange(2)).dtype.kind == "U"
    names = Galaxies.of(_images(2), object_id=[1237648720693755918, 2]).names(np.array([1, 0]))
    assert names.tolist() == ["2", "1237648720693755918"]


def test_true_redshifts_and_pdfs_keep_every_bit():
    z_spec, pdfs = np.array([0.1, 1 / 3]), np.full((2, 3), 1 / 3)
    call = _requests.evaluate_call(z_spec, pdfs=pdfs, object_id=["a", "b"])
    sent = _sent_file(call)
    assert sorted(sent) == ["object_id", "pdfs", "z_spec"]
    np.testing.assert_array_equal(sent["z_spec"], z_spec)
    np.testing.assert_array_equal(sent["pdfs"], pdfs)


def test_the_accept_header_says_what_an_evaluation_returns():
    assert _requests.evaluate_call([0.1]).headers["Accept"] == JSON
    assert _requests.evaluate_call([0.1], accept=HTML).headers["Accept"] == HTML
    call = _requests.evaluate_call([0.1], images=_images(1), ebv=0.1, accept=PNG, params={"plot": "pit"})
    assert (call.headers["Accept"], call.params) == (PNG, {"plot": "pit"})
    assert sorted(_sent_file(call)) == ["ebv", "images", "z_spec"]


def test_true_redshifts_that_are_no_numbers_are_refused_here():
    with pytest.raises(InvalidInput, match="expected z_spec as numbers"):
        _requests.evaluate_call(["far away"])
