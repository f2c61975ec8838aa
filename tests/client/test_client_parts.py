"""Predictions that travel in parts: their order, how many at once, what is read and held, what is handed out."""

import gc
import sys
import threading
import time
import weakref

import h5py
import httpx
import numpy as np
import pytest
from predicting import ROWS, bins, incomplete
from unruly import TIMEOUT, good, numbered, refusal, serving

from photoz.errors import InvalidInput
from photoz_client import (
    PhotozClient,
    PredictionIncomplete,
)

pytestmark = pytest.mark.usefixtures("few_rows")


def test_rows_keep_their_order_when_later_parts_are_answered_first(predict):
    answered = [threading.Event() for _ in range(3)]

    def last_one_first(asked):
        part = asked.first // ROWS
        if part < 2:
            assert answered[part + 1].wait(TIMEOUT)
        answered[part].set()
        return good(asked)

    with serving(last_one_first) as server:
        prediction = predict(server.url, numbered(3 * ROWS), in_flight=3, pdf=True)
    assert bins(prediction) == list(range(3 * ROWS))
    assert prediction.object_id.tolist() == [str(row) for row in range(3 * ROWS)]


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_as_many_requests_are_in_flight_as_asked_for_and_no_more(predict, in_flight):
    barrier = threading.Barrier(in_flight)

    def together(asked):
        barrier.wait(TIMEOUT)  # breaks, and with it the test, if so many never come together
        return good(asked)

    with serving(together) as server:
        prediction = predict(server.url, numbered(2 * in_flight * ROWS), in_flight=in_flight)
        assert server.most_at_once == in_flight
    assert len(prediction) == 2 * in_flight * ROWS


def test_no_more_are_in_flight_while_one_is_slow(predict):
    slow = threading.Event()
    later = []

    def first_one_slow(asked):
        if asked.first == 0:
            assert slow.wait(TIMEOUT)
        else:
            later.append(asked.first)
            if len(later) == 2:
                slow.set()
        return good(asked)

    with serving(first_one_slow) as server:
        predict(server.url, numbered(10 * ROWS), in_flight=3)
        assert server.most_at_once <= 3


@pytest.mark.parametrize(("n", "in_flight"), [(ROWS, 4), (5 * ROWS, 1)])
def test_one_request_at_a_time_needs_no_thread(n, in_flight):
    threads = set()
    hooks = {"request": [lambda request: threads.add(threading.current_thread())]}
    with serving(good) as server, httpx.Client(event_hooks=hooks) as http:
        assert len(PhotozClient(server.url, in_flight=in_flight, http=http).predict(numbered(n))) == n
    assert threads == {threading.current_thread()}


class _Spied:
    """Images on disk that tell how they are read."""

    def __init__(self, images):
        self._images = images
        self.shape = images.shape
        self.reads = []
        self._reading = threading.Lock()

    def __getitem__(self, rows):
        assert self._reading.acquire(blocking=False), "read by two threads at once"
        try:
            self.reads.append((rows.start, rows.stop))
            time.sleep(0.001)
            return self._images[rows]
        finally:
            self._reading.release()


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_what_is_on_disk_is_read_a_part_at_a_time_and_not_before_its_turn(predict, tmp_path, kind):
    images = numbered(12 * ROWS)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        np.save(tmp_path / "images.npy", images)
        stored = file.create_dataset("images", data=images)
        spied = _Spied(np.load(tmp_path / "images.npy", mmap_mode="r") if kind == "npy" else stored)
        ahead = []

        def watching(asked):
            ahead.append(max(stop for _, stop in spied.reads) - asked.first)
            return good(asked)

        with serving(watching) as server:
            prediction = predict(server.url, spied, in_flight=2, pdf=True)
    assert bins(prediction) == list(range(12 * ROWS))
    assert sorted(spied.reads) == [(start, start + ROWS) for start in range(0, 12 * ROWS, ROWS)]
    assert max(ahead) <= 3 * ROWS  # the one that is asked, one beside it, and one whose turn has just come


@pytest.fixture
def _no_garbage_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_collector")
def test_answered_requests_do_not_wait_in_memory_for_the_garbage_collector():
    sent = []
    hooks = {"request": [lambda request: sent.append(weakref.ref(request))]}
    with serving(good) as server, httpx.Client(event_hooks=hooks) as http:
        PhotozClient(server.url, in_flight=2, http=http).predict(numbered(9 * ROWS))
        assert [request() for request in sent] == [None] * (1 + 9)


def test_progress_is_told_in_rows_up_to_the_last_also_of_those_that_fail(predict):
    told = []
    with serving(lambda asked: refusal(500) if asked.first == ROWS else good(asked)) as server:
        incomplete(predict, server.url, numbered(3 * ROWS + 1), progress=told.append)
    assert told == [4, 4, 4, 1]


def test_a_bar_is_shown_on_a_terminal_only(predict, capsys, monkeypatch):
    with serving(good) as server:
        predict(server.url, numbered(3 * ROWS), progress=True)
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        predict(server.url, numbered(3 * ROWS), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12" in err


def test_parts_are_handed_out_in_order_as_they_come():
    with serving(good) as server, PhotozClient(server.url, in_flight=2) as client:
        seen = []
        for rows, prediction in client.predict_parts(numbered(9 * ROWS + 1), pdf=True):
            assert rows.tolist() == bins(prediction)
            assert len(server.asked) <= len(seen) + 4
            seen.append(len(rows))
    assert seen == [ROWS] * 9 + [1]


def test_the_rest_is_not_asked_for_when_the_caller_has_enough():
    with serving(good) as server, PhotozClient(server.url, in_flight=2) as client:
        parts = client.predict_parts(numbered(100 * ROWS))
        next(parts)
        parts.close()
        assert len(server.asked) <= 4


def test_parts_end_with_the_error_that_names_the_rows_left_out():
    seen = []
    with serving(lambda asked: refusal(500) if asked.first == ROWS else good(asked)) as server:
        client = PhotozClient(server.url)
        with client, pytest.raises(PredictionIncomplete) as caught:
            seen.extend(row for rows, _ in client.predict_parts(numbered(3 * ROWS)) for row in rows.tolist())
    assert seen == caught.value.rows.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert caught.value.prediction is None


def test_what_cannot_be_sent_is_refused_before_the_first_part_is_asked_for():
    with pytest.raises(InvalidInput, match="one for each of 12 cutouts"):
        PhotozClient("http://127.0.0.1:9").predict_parts(numbered(12), ebv=[0.1])
