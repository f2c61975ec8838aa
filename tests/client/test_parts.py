"""Predictions sent in parts: their order, how many at once, and what is read and held in memory."""

import gc
import sys
import threading
import time
import weakref

import h5py
import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import PhotozClient
from tests.client.answers import error, first_row, numbered_cutouts, prediction
from tests.client.both_clients import ROWS, bins, incomplete
from tests.client.misbehaving_server import TIMEOUT, serve

pytestmark = pytest.mark.usefixtures("small_requests")


def test_rows_keep_their_order_when_later_parts_are_answered_first(predict):
    answered = [threading.Event() for _ in range(3)]

    def last_part_first(request):
        part = first_row(request) // ROWS
        if part < 2:
            assert answered[part + 1].wait(TIMEOUT)
        answered[part].set()
        return prediction(request)

    with serve(last_part_first) as server:
        result = predict(server.url, numbered_cutouts(3 * ROWS), in_flight=3, pdf=True)
    assert bins(result) == list(range(3 * ROWS))
    assert result.object_id.tolist() == [str(row) for row in range(3 * ROWS)]


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_exactly_in_flight_requests_are_sent_concurrently(predict, in_flight):
    barrier = threading.Barrier(in_flight)

    def together(request):
        barrier.wait(TIMEOUT)  # fails unless all requests arrive together
        return prediction(request)

    with serve(together) as server:
        result = predict(server.url, numbered_cutouts(2 * in_flight * ROWS), in_flight=in_flight)
        assert server.max_concurrent == in_flight
    assert len(result) == 2 * in_flight * ROWS


@pytest.mark.parametrize(("n", "in_flight"), [(ROWS, 4), (5 * ROWS, 1)])
def test_sequential_requests_use_no_threads(n, in_flight):
    threads = set()
    hooks = {"request": [lambda request: threads.add(threading.current_thread())]}
    with serve(prediction) as server, httpx.Client(event_hooks=hooks) as http:
        assert len(PhotozClient(server.url, in_flight=in_flight, http=http).predict(numbered_cutouts(n))) == n
    assert threads == {threading.current_thread()}


class _RecordingSource:
    """Images on disk that record how they are read."""

    def __init__(self, images):
        self._images = images
        self.shape = images.shape
        self.reads = []
        self._lock = threading.Lock()

    def __getitem__(self, rows):
        assert self._lock.acquire(blocking=False), "read by two threads at once"
        self.reads.append((rows.start, rows.stop))
        time.sleep(0.001)
        self._lock.release()
        return self._images[rows]


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_images_on_disk_are_read_once_and_just_before_they_are_sent(predict, tmp_path, kind):
    images = numbered_cutouts(12 * ROWS)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        np.save(tmp_path / "images.npy", images)
        stored = file.create_dataset("images", data=images)
        source = _RecordingSource(np.load(tmp_path / "images.npy", mmap_mode="r") if kind == "npy" else stored)
        ahead = []

        def watching(request):
            ahead.append(max(stop for _, stop in source.reads) - first_row(request))
            return prediction(request)

        with serve(watching) as server:
            result = predict(server.url, source, in_flight=2, pdf=True)
    assert bins(result) == list(range(12 * ROWS))
    assert sorted(source.reads) == [(start, start + ROWS) for start in range(0, 12 * ROWS, ROWS)]
    assert max(ahead) <= 3 * ROWS  # two parts in flight, and one that has just been started


def test_answered_requests_are_freed_without_the_garbage_collector():
    sent = []
    hooks = {"request": [lambda request: sent.append(weakref.ref(request))]}
    gc.disable()
    try:
        with serve(prediction) as server, httpx.Client(event_hooks=hooks) as http:
            PhotozClient(server.url, in_flight=2, http=http).predict(numbered_cutouts(9 * ROWS))
            assert [request() for request in sent] == [None] * (1 + 9)
    finally:
        gc.enable()


def test_progress_counts_the_rows_of_every_part_including_failed_ones(predict):
    counts = []
    with serve(lambda request: error(500) if first_row(request) == ROWS else prediction(request)) as server:
        incomplete(predict, server.url, numbered_cutouts(3 * ROWS + 1), progress=counts.append)
    assert counts == [4, 4, 4, 1]


def test_a_progress_bar_is_shown_only_on_a_terminal(predict, capsys, monkeypatch):
    with serve(prediction) as server:
        predict(server.url, numbered_cutouts(3 * ROWS), progress=True)
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        predict(server.url, numbered_cutouts(3 * ROWS), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12" in err


def test_predict_parts_yields_parts_in_order_as_they_arrive():
    with serve(prediction) as server, PhotozClient(server.url, in_flight=2) as client:
        seen = []
        for rows, part in client.predict_parts(numbered_cutouts(9 * ROWS + 1), pdf=True):
            assert rows.tolist() == bins(part)
            assert len(server.requests) <= len(seen) + 4
            seen.append(len(rows))
    assert seen == [ROWS] * 9 + [1]


def test_predict_parts_sends_no_more_once_it_is_closed():
    with serve(prediction) as server, PhotozClient(server.url, in_flight=2) as client:
        parts = client.predict_parts(numbered_cutouts(100 * ROWS))
        next(parts)
        parts.close()
        assert len(server.requests) <= 4


def test_predict_parts_checks_its_input_at_once():
    with pytest.raises(InvalidInput, match="or as 12, one for each cutout"):
        PhotozClient("http://127.0.0.1:9").predict_parts(numbered_cutouts(12), ebv=[0.1])
