"""The raw client against servers that break off, lie and stall: each has to be recognised as what it is."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.harness.http_client import Connection, Cut, Lost, NotHttp, Refused, Reply, request
from benchmarks.harness.processes import free_port

OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def answering(*answers: bytes, reset: bool = False) -> Iterator[int]:
    """Answer each request on one connection with the next of the answers, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_serve, args=(listener, answers, reset))
        server.start()
        yield listener.getsockname()[1]
        server.join()


def _serve(listener: socket.socket, answers: tuple[bytes, ...], reset: bool) -> None:
    client, _ = listener.accept()
    with client:
        for answer in answers:
            client.recv(1 << 20)
            client.sendall(answer)
        if reset:
            return  # with bytes that were not read: the kernel sends a reset
        client.shutdown(socket.SHUT_WR)
        client.recv(1 << 20)


def ask(port: int, *parts: bytes, then: Callable[[Connection], object] = lambda one: None) -> list[Reply]:
    with contextlib.closing(Connection(port)) as connection:
        replies = [connection.ask(part, 5.0) for part in parts]
        then(connection)
        return replies


def test_answers_on_one_connection_are_read_one_after_the_other():
    first = OK + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello"
    second = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\nRetry-After: 1\r\n"
    second += b"content-length: 0\r\nConnection: close\r\n\r\n"
    with answering(first, second) as port:
        one, two = ask(port, b"a", b"b")
    assert (one.status, one.body, one.headers["x-a"], one.closes) == (200, b"hello", "b", False)
    assert (two.status, two.headers["retry-after"], two.closes) == (429, "1", True)


@pytest.mark.parametrize(
    "answer", [OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n", OK + b"\r\nabcde"]
)
def test_a_body_in_chunks_or_until_the_end_is_joined(answer):
    with answering(answer) as port:
        assert ask(port, b"a")[0].body == b"abcde"


def test_answers_to_pipelined_requests_and_without_a_body_are_told_apart():
    head = OK + b"Content-Length: 5\r\n\r\n"

    def receive_both(connection: Connection) -> None:
        assert connection.receive().body == b"world"
        assert connection.receive(bodiless=True).body == b""

    with answering(head + b"hello" + head + b"world", head) as port:
        ask(port, b"a", then=lambda one: (one.send(b"b"), receive_both(one)))


@pytest.mark.parametrize("answer", [b"", OK + b"Content-Length: 5\r\n\r\nhell", b"HTTP/1.1 200"])
def test_an_answer_that_breaks_off_is_a_loss(answer):
    with answering(answer) as port, pytest.raises(Lost) as caught:
        ask(port, b"a")
    assert not isinstance(caught.value, Cut)
    with answering(reset=True) as port, pytest.raises(Lost):
        ask(port, bytes(1 << 16))


def test_silence_is_a_loss_and_a_port_without_a_server_is_not():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(listener.getsockname()[1])
        with contextlib.closing(connection), pytest.raises(Lost, match="no answer in 0.05 s"):
            connection.ask(b"a", 0.05)
    with pytest.raises(Refused):
        Connection(free_port())


def test_what_is_not_http_is_recognised():
    with answering(b"SSH-2.0-x\r\n\r\n") as port, pytest.raises(NotHttp, match="SSH"):
        ask(port, b"a")


def test_a_connection_that_the_server_has_closed_is_over():
    def wait_until_over(connection: Connection) -> None:
        deadline = time.monotonic() + 5
        while not connection.is_over() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert connection.is_closed_by_server()

    with answering(OK + b"Content-Length: 0\r\n\r\n") as port:
        ask(port, b"a", then=wait_until_over)


def test_a_request_states_the_length_of_its_body():
    assert request("POST", "/a", b"xyz", "X-B: c") == (
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-B: c\r\nContent-Length: 3\r\n\r\nxyz"
    )
    assert b"Content-Length" not in request("GET", "/a")
