"""Rows that fail do not affect the others: both clients against real servers that refuse some."""

import gc
import math
import pickle
import tracemalloc

import numpy as np
import pytest

from photoz.errors import InvalidImages
from photoz_client import BadInput, FailedRows, NotTried, PhotozClient, PredictionIncomplete, ServiceFailed
from tests.client.answers import error, first_row, images, numbered_cutouts, prediction
from tests.client.both_clients import ROWS, bins, incomplete
from tests.client.misbehaving_server import serve

pytestmark = pytest.mark.usefixtures("small_requests")


def test_a_failed_part_does_not_affect_the_others(predict):
    broken = {ROWS, 5 * ROWS}
    with serve(lambda request: error(500) if first_row(request) in broken else prediction(request)) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(8 * ROWS), pdf=True)
    assert caught.failed_rows.tolist() == [4, 5, 6, 7, 20, 21, 22, 23]
    assert caught.rows.tolist() == bins(caught.prediction)
    assert [type(failed) for _, failed in caught.failed] == [ServiceFailed, ServiceFailed]
    assert "cutouts 4 to 7: the service at" in str(caught)


def test_when_every_part_fails_the_first_error_is_raised_soon(predict):
    with serve(lambda request: error(400, "expected five bands")) as server:
        with pytest.raises(BadInput, match="^expected five bands$"):
            predict(server.url, numbered_cutouts(100 * ROWS), in_flight=2)
        assert len(server.requests) <= 5


def _strict(request):
    """Refuse what the real service refuses."""
    empty = ~np.isfinite(images(request)).any(axis=(1, 2, 3))
    return error(400, f"cutout {empty.argmax()} has no finite pixel") if empty.any() else prediction(request)


def test_a_cutout_without_a_finite_pixel_does_not_affect_the_others(predict):
    cutouts = numbered_cutouts(10 * ROWS)
    empty = [1, 2, 7, *range(12, 36)]  # six whole parts in a row are empty, and do not stop the prediction
    cutouts[empty] = np.nan
    with serve(_strict) as server:
        caught = incomplete(predict, server.url, cutouts, pdf=True)
        assert len(server.requests) == 10 + 2
    assert caught.failed_rows.tolist() == empty
    assert caught.rows.tolist() == bins(caught.prediction) == [row for row in range(40) if row not in empty]
    assert all(isinstance(failed, InvalidImages) for _, failed in caught.failed)
    assert "cutouts 1 to 2: no finite pixel" in str(caught)


def test_the_message_says_where_the_service_counts_from(predict):
    message = "cutout 3 is upside down"
    with serve(lambda request: error(400, message) if first_row(request) == ROWS else prediction(request)) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(3 * ROWS))
    assert caught.failed_rows.tolist() == [4, 5, 6, 7]
    assert str(caught.failed[0].error) == "cutout 3 is upside down (counted from cutout 4 on)"


class _DamagedFile:
    """A file with a part that can be read only a few times."""

    shape = (5 * ROWS, 8, 8, 2)

    def __init__(self, fails_at, n_good_reads):
        self.fails_at, self.n_good_reads = fails_at, n_good_reads

    def __getitem__(self, rows):
        if rows.start == self.fails_at:
            self.n_good_reads -= 1
            if self.n_good_reads < 0:
                raise OSError("bad sector")
        return numbered_cutouts(self.shape[0])[rows]


@pytest.mark.parametrize(("fails_at", "n_good_reads"), [(2 * ROWS, 0), (ROWS, 1)])
def test_a_part_that_cannot_be_read_does_not_affect_the_others(predict, fails_at, n_good_reads):
    """With one good read, the part is sent and refused, and cannot be read again to find out why."""
    with serve(lambda request: error(400) if first_row(request) == ROWS == fails_at else prediction(request)) as server:
        caught = incomplete(predict, server.url, _DamagedFile(fails_at, n_good_reads), pdf=True)
    assert caught.failed_rows.tolist() == list(range(fails_at, fails_at + ROWS))
    assert bins(caught.prediction) == caught.rows.tolist()
    assert f"cutouts {fails_at} to {fails_at + 3}: bad sector" in str(caught)


def test_failures_do_not_keep_requests_in_memory():
    n, part_shape = 60, (ROWS, 256, 256, 2)

    class Large:
        shape = (n * ROWS, *part_shape[1:])

        def __getitem__(self, rows):
            return np.full(part_shape, rows.start, np.float32)

    def every_other(request):
        return error(500) if first_row(request) // ROWS % 2 else prediction(request)

    with serve(every_other) as server, PhotozClient(server.url) as client:
        tracemalloc.start()
        with pytest.raises(PredictionIncomplete) as caught:
            client.predict(Large())
        server.requests.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(caught.value.failed) == n // 2
    assert held < 3 * 4 * math.prod(part_shape)


def test_prediction_incomplete_can_be_pickled():
    failed = (FailedRows(range(2, 4), NotTried("x")), FailedRows([0], OSError("bad sector")))
    copy = pickle.loads(pickle.dumps(PredictionIncomplete(5, failed)))
    assert copy.failed_rows.tolist() == [0, 2, 3]
    assert copy.rows.tolist() == [1, 4]
    assert str(copy) == "3 of 5 cutouts have no prediction; cutouts 2 to 3: x; cutout 0: bad sector"
