"""Predictions that travel in parts, both clients against real servers that misbehave."""

import asyncio
import gc
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import h5py
import httpx
import numpy as np
import pytest
from unruly import TIMEOUT, HangUp, Reset, good, names, numbered, refusal, serving
from v2_answers import INFER_PATH

from photoz.errors import InvalidImages, InvalidInput
from photoz_client import (
    AsyncPhotozClient,
    BadInput,
    ConnectionFailed,
    FailedRows,
    NotAuthorised,
    NotTried,
    PhotozClient,
    PredictionIncomplete,
    RequestRefused,
    Retries,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    UnexpectedResponse,
    _galaxies,
)

ROWS = 4  # in one request
AT_ONCE = Retries(base_delay=0.0)


@pytest.fixture(autouse=True)
def _few_rows_a_request(monkeypatch):
    monkeypatch.setattr(_galaxies, "ROWS_PER_REQUEST", ROWS)


def _blocking(url, images, **options):
    predict_options = {name: options.pop(name) for name in ("pdf", "progress", "ebv", "object_id") if name in options}
    with PhotozClient(url, **{"retries": AT_ONCE, **options}) as client:
        return client.predict(images, **predict_options)


def _asynchronous(url, images, **options):
    predict_options = {name: options.pop(name) for name in ("pdf", "progress", "ebv", "object_id") if name in options}

    async def predict():
        async with AsyncPhotozClient(url, **{"retries": AT_ONCE, **options}) as client:
            return await client.predict(images, **predict_options)

    return asyncio.run(predict())


@pytest.fixture(params=[_blocking, _asynchronous], ids=["blocking", "async"])
def predict(request):
    return request.param


def _incomplete(predict, *arguments, **options):
    with pytest.raises(PredictionIncomplete) as caught:
        predict(*arguments, **options)
    return caught.value


def _bins(prediction):
    return prediction.pdf.argmax(axis=1).tolist()


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
    assert _bins(prediction) == list(range(3 * ROWS))
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
    assert _bins(prediction) == list(range(12 * ROWS))
    assert sorted(spied.reads) == [(start, start + ROWS) for start in range(0, 12 * ROWS, ROWS)]
    assert max(ahead) <= 3 * ROWS  # the one that is asked, one beside it, and one whose turn has just come


@pytest.mark.parametrize("failure", [lambda: refusal(429), lambda: refusal(502), lambda: refusal(503), Reset, HangUp])
def test_what_may_pass_is_tried_again_until_it_has_passed(predict, failure):
    def twice(asked):  # a third time, before any other part is answered, would be the last at a service not known yet
        tries = server.firsts.count(asked.first)
        if asked.first == ROWS and tries <= 2:
            failed = failure()
            if isinstance(failed, Exception):
                raise failed
            return failed
        return good(asked)

    with serving(twice) as server:
        prediction = predict(server.url, numbered(3 * ROWS), pdf=True)
        assert server.firsts.count(ROWS) == 3
        assert len(server.asked) == 5
    assert _bins(prediction) == list(range(3 * ROWS))


def test_a_kept_connection_that_breaks_when_it_is_used_again_is_replaced(predict):
    def hangs_up_once(asked):
        if asked.number == 1:
            raise HangUp
        return good(asked)

    with serving(hangs_up_once) as server:
        prediction = predict(server.url, numbered(3 * ROWS), in_flight=1, pdf=True)
        first, second, *others = [asked.port for asked in server.asked]
    assert second == first  # it was used again
    assert len(others) == 3 - 1
    assert first not in others
    assert _bins(prediction) == list(range(3 * ROWS))


@pytest.mark.parametrize(
    ("status", "kind", "n_tries"),
    [
        (429, ServiceBusy, 5),
        (503, ServiceUnavailable, 5),
        (504, TimedOut, 2),
        (500, ServiceFailed, 1),
        (401, NotAuthorised, 1),
    ],
)
def test_attempts_are_counted_and_end(predict, status, kind, n_tries):
    with serving(lambda asked: refusal(status)) as server:
        with pytest.raises(kind, match="the reason"):
            predict(server.url, numbered(ROWS), retries=Retries(attempts=5, base_delay=0.0))
        assert len(server.asked) == n_tries


def test_an_evaluation_and_a_card_are_asked_for_again_too(predict):
    with serving(lambda asked: refusal(503)) as server:
        with PhotozClient(server.url, retries=Retries(attempts=2, base_delay=0.0)) as client:
            with pytest.raises(ServiceUnavailable):
                client.model()
            with pytest.raises(ServiceUnavailable):
                client.evaluate([0.1], pdfs=np.ones((1, 2)))
        assert len(server.asked) == 4


def test_retry_after_is_waited_for(predict):
    with serving(lambda asked: good(asked) if asked.number else refusal(429, Retry_After="1")) as server:
        start = time.monotonic()
        predict(server.url, numbered(ROWS))
        assert time.monotonic() - start >= 1.0


def test_a_service_that_asks_for_more_patience_than_there_is_is_not_waited_for(predict):
    with serving(lambda asked: refusal(503, Retry_After="3600")) as server:
        with pytest.raises(ServiceUnavailable) as caught:
            predict(server.url, numbered(ROWS), retries=Retries(patience=60.0))
        assert len(server.asked) == 1
    assert caught.value.retry_after == 3600.0


def test_a_timed_out_request_is_sent_twice(predict):
    done = threading.Event()

    def silent(asked):
        done.wait(TIMEOUT)
        return good(asked)

    with serving(silent) as server:
        with pytest.raises(TimedOut, match="no answer within 0.2 s"):
            predict(server.url, numbered(ROWS), timeout=0.2)
        done.set()
        assert len(server.asked) == 2


def test_a_service_that_was_never_there_is_given_up_soon_and_one_that_answered_is_waited_for():
    always = Retries(attempts=6, base_delay=0.0)
    with serving(good) as server, PhotozClient(server.url, retries=always) as client:
        client.predict(numbered(1))
        server.behave = _raising(HangUp)
        with pytest.raises(ConnectionFailed):
            client.predict(numbered(1))
        assert len(server.asked) == 1 + 6
        server.tell_names = _raising(HangUp)
        with PhotozClient(server.url, retries=always) as stranger, pytest.raises(ConnectionFailed):
            stranger.predict(numbered(1))
        assert server.asked_for_names == 1 + 3
        assert len(server.asked) == 1 + 6


def _raising(error):
    def behave(*_):
        raise error

    return behave


def test_a_service_that_dies_is_not_hammered_and_what_it_gave_is_kept(predict):
    def dying(asked):
        if asked.first >= 3 * ROWS:
            raise HangUp
        return good(asked)

    with serving(dying) as server:
        error = _incomplete(
            predict,
            server.url,
            numbered(100 * ROWS),
            pdf=True,
            in_flight=2,
            retries=Retries(attempts=3, base_delay=0.0),
        )
        assert len(server.asked) <= 3 + 2 * 3
    assert error.rows.tolist() == _bins(error.prediction) == list(range(3 * ROWS))
    assert error.failed_rows.tolist() == list(range(3 * ROWS, 100 * ROWS))
    assert {type(failed) for _, failed in error.failed} == {ConnectionFailed, NotTried}
    assert isinstance(error.failed[-1].error, NotTried)
    assert str(error).startswith(
        f"388 of 400 cutouts have no prediction; cutouts 12 to 15: the connection to {server.url}"
    )


def test_a_part_that_the_service_fails_on_costs_no_other_part(predict):
    broken = {ROWS, 5 * ROWS}
    with serving(lambda asked: refusal(500, "out of luck") if asked.first in broken else good(asked)) as server:
        error = _incomplete(predict, server.url, numbered(8 * ROWS), pdf=True)
    assert error.failed_rows.tolist() == [4, 5, 6, 7, 20, 21, 22, 23]
    assert error.rows.tolist() == _bins(error.prediction)
    assert [type(failed) for _, failed in error.failed] == [ServiceFailed, ServiceFailed]
    assert "cutouts 4 to 7: the service at" in str(error)


def test_when_every_part_fails_in_the_same_way_it_stops_and_the_error_is_the_plain_one(predict):
    with serving(lambda asked: refusal(400, "expected five bands")) as server:
        with pytest.raises(BadInput, match="^expected five bands$"):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert len(server.asked) <= 5


def test_the_name_of_the_model_is_asked_for_once_by_a_client(predict):
    with serving(good) as server:
        predict(server.url, numbered(9 * ROWS), in_flight=3)
        assert server.asked_for_names == 1
        with PhotozClient(server.url) as client:
            client.predict(numbered(1))
            client.predict(numbered(3 * ROWS))
        assert server.asked_for_names == 2
    assert {asked.path for asked in server.asked} == {INFER_PATH}


def test_a_name_that_is_no_part_of_a_path_is_quoted(predict):
    with serving(good) as server:
        server.tell_names = lambda: names("a/b c?")
        predict(server.url, numbered(1))
        assert [asked.path for asked in server.asked] == ["/v2/models/a%2Fb%20c%3F/infer"]


class _Restarted:
    """Answers under one name until it is told to go on under another."""

    def __init__(self):
        self.name = "old"

    def tell(self):
        return names(self.name)

    def __call__(self, asked):
        if asked.path != f"/v2/models/{self.name}/infer":
            return refusal(404, f"there is no such model here; expected model {self.name}")
        return good(asked, f"{self.name} 1")


def test_a_service_that_came_back_with_another_model_is_asked_under_its_new_name():
    service = _Restarted()
    with serving(service) as server, PhotozClient(server.url) as client:
        server.tell_names = service.tell
        assert client.predict(numbered(1)).model == "old 1"
        service.name = "new"
        prediction = client.predict(numbered(3 * ROWS), pdf=True)
    assert prediction.model == "new 1"
    assert _bins(prediction) == list(range(3 * ROWS))


def test_a_service_that_comes_back_with_another_model_amid_a_prediction_costs_the_rest(predict):
    service = _Restarted()

    def restarting(asked):
        if asked.first == 2 * ROWS:
            service.name = "new"
        return service(asked)

    with serving(restarting) as server:
        server.tell_names = service.tell
        error = _incomplete(predict, server.url, numbered(20 * ROWS), in_flight=1, pdf=True)
    assert _bins(error.prediction) == list(range(2 * ROWS))
    assert "changed its model between two requests, from old 1 to new 1" in str(error)


def test_a_service_that_has_not_the_model_that_it_names_is_asked_twice(predict):
    with serving(lambda asked: refusal(404, "no such model")) as server:
        with pytest.raises(RequestRefused, match="^no such model$") as caught:
            predict(server.url, numbered(ROWS))
        assert (server.asked_for_names, len(server.asked)) == (2, 2)
    assert caught.value.status == 404


def test_a_service_that_does_not_tell_the_name_of_its_model_is_sent_no_cutouts(predict):
    with serving(good) as server:
        server.tell_names = lambda: refusal(401)
        with pytest.raises(NotAuthorised):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert (server.asked_for_names, len(server.asked)) == (1, 0)


def test_a_service_without_a_key_is_asked_by_each_request_in_flight_once(predict):
    with serving(lambda asked: refusal(401)) as server:
        with pytest.raises(NotAuthorised):
            predict(server.url, numbered(100 * ROWS), in_flight=2)
        assert len(server.asked) <= 2


def _strict(asked):
    """Refuse what the real service refuses."""
    empty = ~np.isfinite(asked.images).any(axis=(1, 2, 3))
    return refusal(400, f"cutout {empty.argmax()} has no finite pixel") if empty.any() else good(asked)


def test_cutouts_without_a_finite_pixel_cost_no_other_cutout(predict):
    images = numbered(6 * ROWS)
    empty = [1, 2, 11, *range(12, 16)]
    images[empty] = np.nan
    with serving(_strict) as server:
        error = _incomplete(predict, server.url, images, pdf=True)
        assert len(server.asked) == 6 + 2
    assert error.failed_rows.tolist() == empty
    assert error.rows.tolist() == _bins(error.prediction) == [row for row in range(24) if row not in empty]
    assert all(isinstance(failed, InvalidImages) for _, failed in error.failed)
    assert "cutouts 1 to 2: no finite pixel" in str(error)


def test_many_empty_parts_in_a_row_do_not_stop_the_others(predict):
    images = numbered(10 * ROWS)
    images[: 8 * ROWS] = np.nan
    with serving(_strict) as server:
        error = _incomplete(predict, server.url, images, pdf=True)
    assert error.rows.tolist() == _bins(error.prediction) == list(range(32, 40))


def test_a_refusal_for_another_reason_names_the_part(predict):
    with serving(
        lambda asked: refusal(400, "cutout 3 is upside down") if asked.first == ROWS else good(asked)
    ) as server:
        error = _incomplete(predict, server.url, numbered(3 * ROWS))
    assert error.failed_rows.tolist() == [4, 5, 6, 7]
    assert str(error.failed[0].error) == "cutout 3 is upside down (counted from cutout 4 on)"


def test_rows_of_two_models_are_not_mixed(predict):
    with serving(lambda asked: good(asked, "photoz 1" if asked.first < 2 * ROWS else "photoz 2")) as server:
        error = _incomplete(predict, server.url, numbered(20 * ROWS), in_flight=2, pdf=True)
    assert _bins(error.prediction) == list(range(2 * ROWS))
    assert isinstance(error.failed[0].error, UnexpectedResponse)
    assert "changed its model between two requests, from photoz 1 to photoz 2" in str(error)


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
        error = _incomplete(predict, server.url, _Damaged(), pdf=True)
    assert error.failed_rows.tolist() == [8, 9, 10, 11]
    assert _bins(error.prediction) == error.rows.tolist()
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
        error = _incomplete(predict, server.url, ReadOnce(), pdf=True)
    assert error.failed_rows.tolist() == [4, 5, 6, 7]
    assert _bins(error.prediction) == error.rows.tolist()


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
        _incomplete(predict, server.url, numbered(3 * ROWS + 1), progress=told.append)
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
            assert rows.tolist() == _bins(prediction)
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


def test_async_parts_and_the_other_calls():
    async def run(url):
        rows_seen = []
        async with AsyncPhotozClient(url, in_flight=2) as client:
            async for rows, prediction in client.predict_parts(numbered(5 * ROWS), pdf=True):
                assert rows.tolist() == _bins(prediction)
                rows_seen += rows.tolist()
            async for _ in client.predict_parts(numbered(100 * ROWS)):
                break
        return rows_seen

    with serving(good) as server:
        assert asyncio.run(run(server.url)) == list(range(5 * ROWS))
        assert len(server.asked) <= 5 + 4


def test_the_event_loop_goes_on_while_a_prediction_waits():
    let_go = threading.Event()

    def waiting(asked):
        assert let_go.wait(TIMEOUT)
        return good(asked)

    async def run(url):
        async with AsyncPhotozClient(url) as client:
            prediction = asyncio.create_task(client.predict(numbered(3 * ROWS)))
            while len(server.asked) < 3:
                await asyncio.sleep(0.001)
            let_go.set()
            return len(await prediction)

    with serving(waiting) as server:
        assert asyncio.run(asyncio.wait_for(run(server.url), TIMEOUT)) == 3 * ROWS


def test_a_cancelled_prediction_leaves_nothing_behind():
    let_go = threading.Event()

    def waiting(asked):
        assert let_go.wait(TIMEOUT)
        return good(asked)

    async def run(url):
        async with AsyncPhotozClient(url, in_flight=3) as client:
            prediction = asyncio.create_task(client.predict(numbered(9 * ROWS)))
            while len(server.asked) < 3:
                await asyncio.sleep(0.001)
            prediction.cancel()
            with pytest.raises(asyncio.CancelledError):
                await prediction
            return asyncio.all_tasks() - {asyncio.current_task()}

    with serving(waiting) as server:
        assert not asyncio.run(run(server.url))
        let_go.set()
        assert len(server.asked) == 3


def test_the_blocking_client_works_inside_a_running_event_loop_as_a_notebook_has_one():
    async def cell(url):
        return _blocking(url, numbered(3 * ROWS), pdf=True)

    with serving(good) as server:
        assert _bins(asyncio.run(cell(server.url))) == list(range(3 * ROWS))


def test_several_threads_share_a_client():
    results = {}

    def work(offset):
        results[offset] = _bins(client.predict(numbered(8 * ROWS)[offset:], pdf=True))

    with serving(good) as server, PhotozClient(server.url, in_flight=2) as client:
        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {offset: list(range(offset, 8 * ROWS)) for offset in range(4)}


def test_a_given_client_with_one_connection_serves_all_requests_in_flight_in_turn():
    http = httpx.Client(limits=httpx.Limits(max_connections=1))
    with serving(good) as server, http:
        prediction = PhotozClient(server.url, in_flight=4, timeout=TIMEOUT, http=http).predict(
            numbered(8 * ROWS), pdf=True
        )
        assert server.most_at_once == 1
    assert _bins(prediction) == list(range(8 * ROWS))


def test_an_interrupt_ends_a_prediction_at_once():
    let_go = threading.Event()

    def waiting(asked):
        let_go.wait(TIMEOUT)
        return good(asked)

    code = """
import sys, numpy as np
from photoz_client import PhotozClient
with PhotozClient(sys.argv[1], timeout=None) as client:
    client.predict(np.ones((1000, 8, 8, 2), np.float32))
"""
    with serving(waiting) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + TIMEOUT
        while not server.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=5)
        let_go.set()
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_what_is_incomplete_survives_the_way_from_another_process():
    failed = (FailedRows(range(2, 4), NotTried("x")), FailedRows([0], OSError("bad sector")))
    copy = pickle.loads(pickle.dumps(PredictionIncomplete(5, failed)))
    assert copy.failed_rows.tolist() == [0, 2, 3]
    assert copy.rows.tolist() == [1, 4]
    assert str(copy) == "3 of 5 cutouts have no prediction; cutouts 2 to 3: x; cutout 0: bad sector"
