"""Predictions sent in parts: their order, threads and tasks, and what is read and held in memory."""

import asyncio
import gc
import socket
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import h5py
import httpx
import pytest

from photoz.errors import InvalidInput
from photoz_client import AsyncPhotozClient, PhotozClient
from tests.client.answers import bins, failing_at, first_row, numbered_cutouts, prediction
from tests.client.server import ROWS, TIMEOUT, incomplete, serve

pytestmark = pytest.mark.usefixtures("small_requests")


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_exactly_in_flight_requests_are_sent_concurrently_and_rows_keep_their_order(predict, in_flight):
    barrier, answered = threading.Barrier(in_flight), [threading.Event() for _ in range(2 * in_flight)]

    def last_part_first(request):
        barrier.wait(TIMEOUT)  # fails unless all requests arrive together
        part = first_row(request) // ROWS
        if (part + 1) % in_flight:
            assert answered[part + 1].wait(TIMEOUT)
        answered[part].set()
        return prediction(request)

    rows = range(2 * in_flight * ROWS)
    with serve(last_part_first) as server:
        result = predict(server.url, numbered_cutouts(len(rows)), in_flight=in_flight, pdf=True)
        assert max(server.concurrent) == in_flight
    assert (bins(result), result.object_id.tolist()) == (list(rows), list(rows))


def test_images_on_disk_are_read_once_and_just_before_they_are_sent(predict, tmp_path):
    reads, ahead, lock = [], [], threading.Lock()

    class Recorded:
        shape = (12 * ROWS, 8, 8, 2)

        def __getitem__(self, rows):
            assert lock.acquire(blocking=False), "read by two threads at once"
            reads.append((rows.start, rows.stop))
            time.sleep(0.001)
            lock.release()
            return stored[rows]

    def watching(request):
        ahead.append(max(stop for _, stop in reads) - first_row(request))
        return prediction(request)

    with h5py.File(tmp_path / "images.h5", "w") as file, serve(watching) as server:
        stored = file.create_dataset("images", data=numbered_cutouts(12 * ROWS))
        assert bins(predict(server.url, Recorded(), in_flight=2, pdf=True)) == list(range(12 * ROWS))
    assert sorted(reads) == [(start, start + ROWS) for start in range(0, 12 * ROWS, ROWS)]
    assert max(ahead) <= 2 * ROWS  # two parts in flight


def test_sequential_requests_use_no_threads_and_answered_ones_are_freed_without_the_garbage_collector():
    main, threads, sent = threading.current_thread(), set(), []
    hooks = [lambda request: threads.add(threading.current_thread()), lambda request: sent.append(weakref.ref(request))]
    gc.disable()
    try:
        one = httpx.Limits(max_connections=1)  # requests may wait for it as long as they like
        with serve(prediction) as server, httpx.Client(event_hooks={"request": hooks}, limits=one) as http:
            for n_parts, in_flight, n_sent in ((1, 4, 2), (5, 1, 8), (9, 2, 18)):
                client = PhotozClient(server.url, in_flight=in_flight, http=http, timeout=TIMEOUT)
                result = client.predict(numbered_cutouts(n_parts * ROWS))
                assert len(result) == n_parts * ROWS
                assert all(values.flags.writeable for _, values in result.columns())
                assert (threads == {main}) == (in_flight != 2)
                # httpcore 1.0 may take a connection for idle, and close it, while another thread begins to use it.
                assert len(sent) == n_sent or (in_flight == 2 and len(sent) > n_sent)
            assert not any(request() for request in sent)
    finally:
        gc.enable()


def test_progress_counts_every_part_and_a_bar_is_shown_only_on_a_terminal(predict, capsys, monkeypatch):
    counts = []
    with serve(failing_at(ROWS)) as server:
        incomplete(predict, server.url, numbered_cutouts(3 * ROWS + 1), progress=counts.append)
        assert counts == [4, 4, 4, 1]
        server.behave = prediction
        predict(server.url, numbered_cutouts(3 * ROWS), progress=True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        predict(server.url, numbered_cutouts(3 * ROWS))
        assert capsys.readouterr() == ("", "")
        predict(server.url, numbered_cutouts(3 * ROWS), progress=True)
    out, err = capsys.readouterr()
    assert (out, "cutouts" in err, "12/12" in err) == ("", True, True)


def test_predict_parts_yields_parts_in_order_as_they_arrive_until_it_is_closed():
    async def notebook_cell(url):  # the blocking client works in a running event loop, too
        with PhotozClient(url, in_flight=2, timeout=TIMEOUT) as client:
            with pytest.raises(InvalidInput, match="or as 12, one for each cutout"):
                client.predict_parts(numbered_cutouts(12), ebv=[0.1])
            seen = []
            for rows, part in client.predict_parts(numbered_cutouts(9 * ROWS + 1), pdf=True):
                assert rows.tolist() == bins(part)
                assert len(server.requests) <= len(seen) + 4
                seen.append(len(rows))
            server.requests.clear()
            parts = client.predict_parts(numbered_cutouts(100 * ROWS))
            next(parts)
            parts.close()
        async with AsyncPhotozClient(url, in_flight=2, timeout=TIMEOUT) as client:
            parts = [rows.tolist() + bins(p) async for rows, p in client.predict_parts(numbered_cutouts(8), pdf=True)]
            async for _ in client.predict_parts(numbered_cutouts(100 * ROWS)):
                break
        return seen, parts

    with serve(prediction) as server:
        assert asyncio.run(notebook_cell(server.url)) == ([4] * 9 + [1], [2 * [0, 1, 2, 3], 2 * [4, 5, 6, 7]])
        assert len(server.requests) <= 4 + 2 + 4


def test_threads_share_a_client():
    cutouts = numbered_cutouts(8 * ROWS)
    with serve(prediction) as server, PhotozClient(server.url, in_flight=2, timeout=TIMEOUT) as client:
        with ThreadPoolExecutor(4) as threads:
            rows = threads.map(lambda offset: bins(client.predict(cutouts[offset:], pdf=True)), range(4))
        assert list(rows) == [list(range(offset, 8 * ROWS)) for offset in range(4)]


def test_client_closed_while_a_thread_of_it_connects_leaves_no_socket_open(monkeypatch):
    sockets = []

    def connect_and_close(*arguments, **options):
        sockets.append(connect(*arguments, **options))
        client.close()
        return sockets[0]

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connect_and_close)
    with serve(prediction) as server:
        client = PhotozClient(server.url, timeout=TIMEOUT)
        with pytest.raises(RuntimeError, match="closed"):  # by the second request, after an answer to the first
            client.predict(numbered_cutouts(1))
        assert sockets[0].fileno() == -1


@pytest.mark.parametrize("cancel", [False, True])
def test_the_event_loop_is_free_during_a_prediction_which_can_be_cancelled(cancel):
    released = threading.Event()

    async def run(server):
        before = asyncio.all_tasks()
        async with AsyncPhotozClient(server.url, in_flight=3, timeout=None) as client:
            task = asyncio.create_task(client.predict(numbered_cutouts(3 * ROWS)))
            while len(server.requests) < 3:
                await asyncio.sleep(0.001)
            if not cancel:
                released.set()
                return len(await task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            released.set()
            return len(asyncio.all_tasks() - before)

    with serve(lambda request: released.wait(TIMEOUT) and prediction(request)) as server:
        assert asyncio.run(asyncio.wait_for(run(server), TIMEOUT)) == (0 if cancel else 3 * ROWS)
