"""Images, and how a file is refused, for the tests of the file formats."""

import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2)
IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
BANDS_FIRST = np.ascontiguousarray(np.moveaxis(IMAGES, -1, 1))
COLUMNS = {
    "object_id": np.array(["NGC 224", "β Pic", "", "1237648720693755918"]),
    "z_spec": np.array([0.1, 0.2, 0.3, np.nan]),
    "ebv": np.array([0.01, 0.02, 0.03, 0.04], dtype=np.float32),
    "magnitudes": np.ones((4, 3)),
    "split": np.array(["train", "test", "train", "validation"]),
}


def refusal(path, error=InvalidDataset):
    """Return the message with which a file is refused, when it is opened or when its images are read."""
    with pytest.raises(error) as caught, open_cutouts(path) as cutouts:
        cutouts.images[:]
    return str(caught.value)


def check_images(images, expected):
    """Compare images that are read in slices, forwards and backwards, row by row and beyond the end."""
    assert images.shape == expected.shape
    for rows in (slice(None), slice(1, 3), slice(2, 400), slice(3, 1), slice(None, None, 3), slice(3, 0, -2), 2, -1):
        np.testing.assert_array_equal(images[rows], expected[rows])
    with pytest.raises(IndexError):
        images[len(expected)]


def check_columns(cutouts):
    assert cutouts.columns.keys() == COLUMNS.keys()
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(cutouts.column(name), values)
