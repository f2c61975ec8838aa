"""Rows that fail leave the others alone: both clients against real servers that refuse some."""

import gc
import math
import pickle
import tracemalloc

import numpy as np
import pytest
from predicting import ROWS, bins, incomplete
from unruly import good, numbered, refusal, serving

from photoz.errors import InvalidImages
from photoz_client import (
    BadInput,
    FailedRows,
    NotTried,
    PhotozClient,
    PredictionIncomplete,
    ServiceFailed,
    UnexpectedResponse,
)

pytestmark = pytest.mark.usefixtures("few_rows")


def test_a_part_that_the_service_fails_on_costs_no_other_part(predict):
    broken = {ROWS, 5 * ROWS}
    with serving(lambda asked: refusal(500, "out of luck") if asked.first in broken else good(asked)) as server:
        error = incomplete(predict, server.url, numbered(8 * ROWS), pdf=True)
    assert error.failed_rows.tolist() == [4, 5, 6, 7, 20, 21, 22, 23]
    assert error.rows.tolist() == bins(error.prediction)
    assert [type(failed) for _, failed in error.failed] == [ServiceFailed, ServiceFailed]
    assert "cutouts 4 to 7: the service at" in str(error)


def test_when_every_part_fails_in_the_same_way_it_stops_and_the_error_is_the_plain_one(predict):
    with serving(lambda asked: refusal(400, "expected five bands")) as server:
        with pytest.raises(BadInput, match="^expected five bands$"):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert len(server.asked) <= 5


def _strict(asked):
    """Refuse what the real service refuses."""
    empty = ~np.isfinite(asked.images).any(axis=(1, 2, 3))
    return refusal(400, f"cutout {empty.argmax()} has no finite pixel") if empty.any() else good(asked)


def test_cutouts_without_a_finite_pixel_cost_no_other_cutout(predict):
    images = numbered(6 * ROWS)
    empty = [1, 2, 11, *range(12, 16)]
    images[empty] = np.nan
    with serving(_strict) as server:
        error = incomplete(predict, server.url, images, pdf=True)
        assert len(server.asked) == 6 + 2
    assert error.failed_rows.tolist() == empty
    assert error.rows.tolist() == bins(error.prediction) == [row for row in range(24) if row not in empty]
    assert all(isinstance(failed, InvalidImages) for _, failed in error.failed)
    assert "cutouts 1 to 2: no finite pixel" in str(error)


def test_many_empty_parts_in_a_row_do_not_stop_the_others(predict):
    images = numbered(10 * ROWS)
    images[: 8 * ROWS] = np.nan
    with serving(_strict) as server:
        error = incomplete(predict, server.url, images, pdf=True)
    assert error.rows.tolist() == bins(error.prediction) == list(range(32, 40))


def test_a_refusal_for_another_reason_names_the_part(predict):
    with serving(
        lambda asked: refusal(400, "cutout 3 is upside down") if asked.first == ROWS else good(asked)
    ) as server:
        error = incomplete(predict, server.url, numbered(3 * ROWS))
    assert error.failed_rows.tolist() == [4, 5, 6, 7]
    assert str(error.failed[0].error) == "cutout 3 is upside down (counted from cutout 4 on)"


def test_an_answer_with_other_rows_than_were_sent_is_refused(predict):
    with (
        serving(lambda asked: good(asked, n=3)) as server,
        pytest.raises(UnexpectedResponse, match=r"answered 4 cutouts with columns of \(3,\) rows"),
    ):
        predict(server.url, numbered(ROWS))


class _Damaged:
    """A file with a part that cannot be read."""

    shape = (5 * ROWS, 4, 4, 2)

    def __getitem__(self, rows):
        if rows.start == 2 * ROWS:
            raise OSError("bad sector")
        return numbered(self.shape[0])[rows]


def test_a_part_of_a_file_that_cannot_be_read_costs_no_other_part(predict):
    with serving(good) as server:
        error = incomplete(predict, server.url, _Damaged(), pdf=True)
    assert error.failed_rows.tolist() == [8, 9, 10, 11]
    assert bins(error.prediction) == error.rows.tolist()
    assert "cutouts 8 to 11: bad sector" in str(error)


def test_a_part_that_is_refused_and_then_cannot_be_read_again_costs_no_other_part(predict):
    class ReadOnce(_Damaged):
        def __init__(self):
            self.reads = []

        def __getitem__(self, rows):
            if rows.start in self.reads:
                raise OSError("bad sector")
            self.reads.append(rows.start)
            return numbered(self.shape[0])[rows]

    with serving(lambda asked: refusal(400) if asked.first == ROWS else good(asked)) as server:
        error = incomplete(predict, server.url, ReadOnce(), pdf=True)
    assert error.failed_rows.tolist() == [4, 5, 6, 7]
    assert bins(error.prediction) == error.rows.tolist()


def test_failures_do_not_keep_the_requests_in_memory():
    n, part_shape = 60, (ROWS, 256, 256, 2)

    class Large:
        shape = (n * ROWS, *part_shape[1:])

        def __getitem__(self, rows):
            return np.full(part_shape, rows.start, np.float32)

    def every_other(asked):
        return refusal(500) if asked.first // ROWS % 2 else good(asked)

    with serving(every_other) as server, PhotozClient(server.url) as client:
        tracemalloc.start()
        with pytest.raises(PredictionIncomplete) as caught:
            client.predict(Large())
        server.asked.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(caught.value.failed) == n // 2
    assert held < 3 * 4 * math.prod(part_shape)


def test_what_is_incomplete_survives_the_way_from_another_process():
    failed = (FailedRows(range(2, 4), NotTried("x")), FailedRows([0], OSError("bad sector")))
    copy = pickle.loads(pickle.dumps(PredictionIncomplete(5, failed)))
    assert copy.failed_rows.tolist() == [0, 2, 3]
    assert copy.rows.tolist() == [1, 4]
    assert str(copy) == "3 of 5 cutouts have no prediction; cutouts 2 to 3: x; cutout 0: bad sector"
