"""Pixels in half precision: half of the bytes, and an error where they do not fit."""

import numpy as np
import pytest

from photoz.errors import InvalidImages, InvalidInput
from photoz_client import PhotozClient, ServiceFailed
from tests.client.answers import decode, error, mock_client_of_model

IMAGES = np.random.default_rng(0).normal(0.1, 0.05, (3, 8, 8, 2)).astype(np.float32)


def sent(images, **options):
    """Return the tensor of pixels that a client sends."""
    tensors = []

    def handle(request):
        tensors.append(decode(request.content, request.headers).inputs["images"])
        return error(500)

    with pytest.raises(ServiceFailed, match="the reason"):
        mock_client_of_model(handle, **options).predict(images)
    return tensors[0]


def test_pixels_are_halved_only_if_asked_for():
    assert sent(IMAGES).datatype == "FP32"
    half = sent(IMAGES, wire_dtype="float16")
    assert half.datatype == "FP16"
    np.testing.assert_allclose(half.array, IMAGES, rtol=5e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.uint8])
def test_short_types_are_sent_as_they_are(dtype):
    images = np.ones((1, 8, 8, 2), dtype)
    assert sent(images, wire_dtype="float16").array.dtype == dtype


def test_masked_and_infinite_pixels_stay():
    images = IMAGES.copy()
    images[0, 0, 0], images[1, 0, 0] = np.nan, np.inf
    half = sent(images, wire_dtype="float16").array
    assert np.isnan(half[0, 0, 0]).all()
    assert np.isinf(half[1, 0, 0]).all()


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1e6, r"is beyond float16, whose largest number is 65,504: use wire_dtype='float32'"),
        (1e-4, r"pixels of .* on average are too faint for float16, expected 0.001 at least: use wire_dtype='float32'"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(factor, words):
    client = mock_client_of_model(lambda request: pytest.fail("sent"), wire_dtype="float16")
    with pytest.raises(InvalidImages, match=words):
        client.predict(factor * IMAGES)


def test_other_types_are_refused():
    with pytest.raises(InvalidInput, match="expected wire_dtype float32 or float16, got 'float8'"):
        PhotozClient("http://service", wire_dtype="float8")
