import numpy as np
import pytest

from photoz.errors import InvalidImages
from photoz.inference.reading import BATCH_ROWS, read_batch, read_batches
from photoz.io.cutouts import Cutouts
from tests.toys import GRIZ, galaxies

N = BATCH_ROWS + 44


class Broken:
    """Images of which one row cannot be read."""

    def __init__(self, images, row):
        self.images, self.row, self.shape = images, row, images.shape

    def __getitem__(self, key):
        if self.row in np.arange(len(self.images))[key]:
            raise OSError("damaged")
        return self.images[key]


@pytest.fixture
def cutouts():
    return Cutouts(galaxies(GRIZ, N), {"ebv": np.where(np.arange(N) < 9, np.nan, 0.2), "object_id": np.arange(N)})


def test_all_rows_are_read_in_order(cutouts):
    batches = list(read_batches(cutouts, GRIZ, 0.03))
    assert [len(rows) for rows, _ in batches] == [len(batch) for _, batch in batches] == [BATCH_ROWS, 44]
    np.testing.assert_array_equal(np.concatenate([batch.images for _, batch in batches]), cutouts.images)
    assert np.concatenate([batch.names for _, batch in batches]).tolist() == [str(row) for row in range(N)]
    assert batches[0][1].ebv[:10] == pytest.approx([0.03] * 9 + [0.2])


def test_rows_are_read_in_the_order_asked_for(cutouts):
    batch = read_batch(cutouts, np.array([7, 3, 200]), GRIZ, 0.03)
    np.testing.assert_array_equal(batch.images, cutouts.images[[7, 3, 200]])
    assert batch.names.tolist() == ["7", "3", "200"]


def test_bad_rows_are_rejected_with_the_reason_and_the_others_kept(cutouts):
    cutouts.columns["ebv"][5] = -1.0
    cutouts.images[6] = np.nan
    rejected = {}
    source = Cutouts(Broken(cutouts.images, 290), cutouts.columns)
    batches = list(read_batches(source, GRIZ, 0.03, reject=rejected.__setitem__))
    assert np.concatenate([rows for rows, _ in batches]).tolist() == [n for n in range(N) if n not in (5, 6, 290)]
    for rows, batch in batches:
        np.testing.assert_array_equal(batch.images, cutouts.images[rows])
    assert rejected.keys() == {5, 6, 290}
    assert rejected[5] == "expected 0 <= ebv <= 10 mag, got -1 for the cutout"
    assert rejected[6].startswith("the cutout has no finite pixel")
    assert rejected[290] == "it cannot be read: damaged"


def test_bad_rows_are_an_error_unless_they_are_rejected(cutouts):
    cutouts.images[260] = np.nan
    with pytest.raises(InvalidImages, match="cutout 4 has no finite pixel"):
        list(read_batches(cutouts, GRIZ, 0.03))
