"""The arithmetic of the load generator, on times made up so that the answers are known, and on a real socket."""

import selectors
import socket
import threading

import numpy as np
import pytest
from benchmarks.connection import BadReply, HttpConnection, body_length
from benchmarks.load import Timed, arrivals, summarise


def test_steady_requests_give_their_rate_and_times():
    # One client, 0.1 s a request, each due as the one before is answered, 4 images in each.
    timed = [Timed(due=0.1 * i, sent=0.1 * i, answered=0.1 * (i + 1)) for i in range(100)]
    report = summarise(timed, images=4, start=2.0, end=8.0, processor_s=0.05)
    assert report.images_per_s == pytest.approx(40)
    assert report.requests == 60
    assert (report.p50_ms, report.p99_ms, report.max_ms) == pytest.approx((100, 100, 100))
    assert report.late_p99_ms == pytest.approx(0)
    assert report.generator_ms == pytest.approx(0.5)


def test_a_request_across_an_edge_counts_in_part():
    timed = [Timed(0.0, 0.0, 2.0), Timed(2.0, 2.0, 4.0), Timed(4.0, 4.0, 6.0)]
    report = summarise(timed, images=1, start=1.0, end=4.5, processor_s=0.0)
    assert report.images_per_s == pytest.approx((0.5 + 1 + 0.25) / 3.5)
    assert report.requests == 2  # the first was due before


def test_time_counts_from_when_a_request_was_due():
    # A server that answers in 10 ms once it is asked, and was asked late.
    timed = [Timed(due=0.0, sent=0.3, answered=0.31), Timed(due=0.1, sent=0.31, answered=0.32)]
    report = summarise(timed, images=1, start=0.0, end=1.0, processor_s=0.0)
    assert report.max_ms == pytest.approx(310)
    assert report.p50_ms == pytest.approx((310 + 220) / 2)
    assert report.late_p99_ms == pytest.approx(300, rel=0.01)


def test_arrivals_have_the_rate_that_is_asked_for_and_come_at_random():
    times = np.array(arrivals(rate=500.0, start=10.0, end=50.0))
    gaps = np.diff(times)
    assert times[0] > 10.0
    assert times[-1] < 50.0
    assert len(times) == pytest.approx(500 * 40, rel=0.03)  # sqrt(20,000) is 0.7 % of it
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as of an exponential distribution


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"],
)
def test_a_refusal_is_never_counted_as_an_answer(head):
    with pytest.raises(BadReply, match="expected status 200 and a Content-Length"):
        body_length(head)


def test_a_reply_in_pieces_is_complete_at_its_last_byte():
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    request = b"GET / HTTP/1.1\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        server = threading.Thread(target=_answer_byte_by_byte, args=(listener, request, reply))
        server.start()
        connection = HttpConnection(listener.getsockname()[1], selector, request)
        connection.send()
        while not any([connection.advance(events) for _, events in selector.select(5)]):
            pass
        assert connection.reply() == (reply[:-5], b"hello")
        connection.close()
        server.join()


def _answer_byte_by_byte(listener: socket.socket, request: bytes, reply: bytes) -> None:
    caller, _ = listener.accept()
    with caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while received != request:
            received += caller.recv(100)
        for i in range(len(reply)):
            caller.sendall(reply[i : i + 1])
