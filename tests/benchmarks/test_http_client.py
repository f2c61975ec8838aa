"""The raw client against servers that break off, lie and stall: each has to be recognised as what it is."""

import contextlib
import socket

import pytest

from benchmarks.harness.http_client import Connection, Cut, Lost, NotHttp, Refused
from benchmarks.harness.processes import free_port
from benchmarks.harness.threads import background

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello"
BUSY = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\nRetry-After: 1\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"
)


@contextlib.contextmanager
def answering(*answers, reset=False):
    """Answer each request on one connection with the next of the answers, then close it; yield a client's."""

    def serve():
        client, _ = listener.accept()
        with client:
            for answer in answers:
                client.recv(1 << 20)
                client.sendall(answer)
            if not reset:  # with bytes that were not read, the kernel sends one
                client.shutdown(socket.SHUT_WR)
                client.recv(1 << 20)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        background([serve]),
        contextlib.closing(Connection(listener.getsockname()[1])) as connection,
    ):
        yield connection


def test_answers_on_one_connection_are_read_one_after_the_other():
    with answering(HELLO, BUSY) as connection:
        first, second = connection.ask(b"a"), connection.ask(b"b")
    assert (first.status, first.body, first.headers["x-a"], first.closes) == (200, b"hello", "b", False)
    assert (second.status, second.headers["retry-after"], second.closes) == (429, "1", True)


@pytest.mark.parametrize(
    "rest", [b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n", b"\r\nabcde"]
)
def test_a_body_in_chunks_or_until_the_end_is_joined(rest):
    with answering(OK + rest) as connection:
        assert connection.ask(b"a").body == b"abcde"


def test_answers_to_pipelined_requests_and_without_a_body_are_told_apart():
    with answering(HELLO + HELLO.replace(b"hello", b"world"), HELLO.removesuffix(b"hello")) as connection:
        assert [connection.ask(b"a").body, connection.receive().body] == [b"hello", b"world"]
        connection.send(b"b")
        assert connection.receive(bodiless=True).body == b""


@pytest.mark.parametrize(
    ("answer", "error"), [(b"", Lost), (HELLO[:-1], Lost), (HELLO[:12], Lost), (b"SSH-2.0-x\r\n\r\n", NotHttp)]
)
def test_an_answer_that_breaks_off_is_a_loss_and_another_protocol_is_not(answer, error):
    with answering(answer) as connection, pytest.raises(error) as caught:
        connection.ask(b"a")
    assert not isinstance(caught.value, Cut)


def test_a_reset_and_silence_are_losses_and_a_port_without_a_server_is_not():
    with answering(reset=True) as connection, pytest.raises(Lost):
        connection.ask(bytes(1 << 16))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(listener.getsockname()[1])
        with contextlib.closing(connection), pytest.raises(Lost, match="no answer in 0.05 s"):
            connection.ask(b"a", 0.05)
    with pytest.raises(Refused):
        Connection(free_port())
