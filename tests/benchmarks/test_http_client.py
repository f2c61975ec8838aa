"""The raw client against servers that break off, lie and drag: each must be told as what it is."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from benchmarks.endurance.client import Connection, Lost, NotHttp, Refused, Reply, request
from benchmarks.servers import free_port


@contextlib.contextmanager
def answering(*answers: bytes, reset: bool = False) -> Iterator[int]:
    """Answer each request on one connection with the next of the answers, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_serve, args=(listener, answers, reset))
        server.start()
        yield listener.getsockname()[1]
        server.join()


def _serve(listener: socket.socket, answers: tuple[bytes, ...], reset: bool) -> None:
    caller, _ = listener.accept()
    with caller:
        for answer in answers:
            caller.recv(1 << 20)
            caller.sendall(answer)
        if reset:
            return  # with bytes that nobody read: the kernel sends a reset
        caller.shutdown(socket.SHUT_WR)
        caller.recv(1 << 20)


def ask(port: int, *parts: bytes, step: Callable[[Connection], object] = lambda one: None) -> list[Reply]:
    async def asked() -> list[Reply]:
        connection = await Connection.open(port)
        try:
            replies = [await connection.ask(part, 5.0) for part in parts]
            step(connection)
            return replies
        finally:
            connection.close()

    return asyncio.run(asked())


def test_an_answer_is_read_to_its_last_byte_and_the_next_one_after_it():
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
    second = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\nRetry-After: 1\r\n"
    second += b"content-length: 0\r\nConnection: close\r\n\r\n"
    with answering(first, second) as port:
        one, two = ask(port, b"a", b"b")
    assert (one.status, one.body, one.headers["x-a"], one.closes) == (200, b"hello", "b", False)
    assert (two.status, two.headers["retry-after"], two.closes) == (429, "1", True)
    assert one.sent <= one.answered <= two.sent


def test_chunks_are_joined():
    with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n") as port:
        assert ask(port, b"a")[0].body == b"abcde"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", b"HTTP/1.1 200"])
def test_an_answer_that_breaks_off_is_a_loss(answer):
    with answering(answer) as port, pytest.raises(Lost) as caught:
        ask(port, b"a")
    assert caught.value.whole


def test_a_reset_without_an_answer_is_a_loss():
    with answering(reset=True) as port, pytest.raises(Lost):
        ask(port, bytes(1 << 16))


def test_silence_is_a_loss():
    async def asked() -> None:
        connection = await Connection.open(port)
        try:
            await connection.ask(b"a", 0.05)
        finally:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Lost, match="no answer in 0.05 s"):
            asyncio.run(asked())


def test_nobody_there_is_no_loss():
    with pytest.raises(Refused):
        ask(free_port(), b"a")


def test_what_is_no_http_is_told():
    with answering(b"SSH-2.0-x\r\n\r\n") as port, pytest.raises(NotHttp, match="SSH"):
        ask(port, b"a")


def test_a_connection_that_the_server_has_closed_is_over_before_anything_is_sent():
    def closed(connection: Connection) -> None:
        for _ in range(500):
            if connection.is_over():
                return
            threading.Event().wait(0.01)
        pytest.fail("not over after 5 s")

    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        ask(port, b"a", step=closed)


def test_a_request_says_how_long_its_body_is():
    assert request("POST", "/a", b"xyz", "X-B: c") == (
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-B: c\r\nContent-Length: 3\r\n\r\nxyz"
    )
    assert b"Content-Length" not in request("GET", "/a")
