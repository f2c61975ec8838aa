"""What is too large, too slow or too much is refused, in a sentence, and harms nobody else."""

import gzip
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from running import running_service
from toys import GRIZ, galaxies, npy_bytes
from wires import answer, connection, error, has_ended, wait_for

from photoz.errors import InvalidInput, TooLarge
from photoz.io.npz import npz_bytes
from service.edge import json_size
from service.edge.body import Body
from service.edge.room import Room, unlimited
from service.errors import Full
from service.machine import available_memory
from service.settings import MIB, Limits

MAX_BODY = 400_000  # 47 of the toy's cutouts
GOOD = b"GET /model HTTP/1.1\r\nHost: service\r\n\r\n"


@pytest.fixture(scope="module")
def small(make_toy_bundle, tmp_path_factory):
    """Run a service with little patience and little room."""
    limits = {
        "PHOTOZ_MAX_BODY": MAX_BODY,
        "PHOTOZ_MAX_MEMORY": 2 * MAX_BODY,
        "PHOTOZ_UPLOAD_TIMEOUT": 1,
        "PHOTOZ_HEADER_TIMEOUT": 1,
        "PHOTOZ_MAX_HEADERS": 4096,
        "PHOTOZ_MAX_IN_FLIGHT": 2,
    }
    with running_service(tmp_path_factory.mktemp("small"), PHOTOZ_BUNDLE=make_toy_bundle().path, **limits) as running:
        yield running.url


def head(path, *headers):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()


def gauge(url, name):
    return float(re.search(rf"^{name}(?:{{.*}})? (.+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)[1])


def test_a_body_that_says_it_is_too_large_is_refused_and_the_connection_lives_on(small):
    with connection(small) as wire:
        wire.sendall(head("/predict_file", f"Content-Length: {MAX_BODY + 1}") + bytes(MAX_BODY + 1))
        assert error(answer(wire)) == (
            413,
            "expected a body of at most 400,000 bytes, got 400001: send it in parts",
        )
        wire.sendall(GOOD)
        assert answer(wire)[0] == 200


def test_nothing_of_a_body_that_says_it_is_too_large_has_to_be_sent(small):
    with connection(small) as wire:
        wire.sendall(head("/predict_file", "Content-Length: 99999999999999999999", "Expect: 100-continue"))
        status, message = error(answer(wire))
        assert status in (400, 413)  # the parser knows no such number
        assert "expected" in message


def test_a_body_that_grows_too_large_is_refused_when_it_does(small):
    def chunks():
        for _ in range(100):
            yield bytes(10_000)

    refused = httpx.post(f"{small}/predict_file", content=chunks())
    assert (refused.status_code, refused.json()["error"]) == (
        413,
        "expected a body of at most 400,000 bytes, got more: send it in parts",
    )


def test_json_counts_for_what_it_becomes(small):
    body = json.dumps({"images": galaxies(GRIZ, 2).tolist()}).encode()
    assert len(body) < MAX_BODY / 2
    refused = httpx.post(f"{small}/predict", content=body)
    assert refused.status_code == 413
    assert refused.json()["error"].startswith("expected JSON that decodes into at most 400,000 bytes, got more")


@pytest.mark.parametrize("packed_by", ["gzip", "npz"])
def test_what_unpacks_into_too_much_is_refused(small, packed_by):
    if packed_by == "gzip":
        bomb = gzip.compress(bytes(10**8))
        refused = httpx.post(f"{small}/v2/models/toy/infer", content=bomb, headers={"content-encoding": "gzip"})
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.zeros((3, 23, 23, 4)), more=np.zeros(10**7))
        refused = httpx.post(f"{small}/predict_file", content=buffer.getvalue())
    assert refused.status_code == 413
    assert "unpacked" in refused.json()["error"]


def test_a_file_that_is_not_packed_may_be_as_large_as_any_body(small):
    buffer = io.BytesIO()
    np.savez(buffer, images=galaxies(GRIZ, 40))
    assert MAX_BODY / 2 < buffer.tell() < MAX_BODY
    assert len(httpx.post(f"{small}/predict_file", content=buffer.getvalue()).json()["z_mean"]) == 40


@pytest.mark.parametrize("framing", ["Content-Length: 20000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_is_not_waited_for(small, framing):
    with connection(small) as wire:
        wire.sendall(head("/predict_file", framing))
        begin = time.monotonic()
        status, message = error(answer(wire))
        assert status == 408
        assert message == "the body did not arrive in time: 0 bytes in 1 s"
        assert 0.9 < time.monotonic() - begin < 3
        assert has_ended(wire)


def test_a_head_that_does_not_arrive_is_not_waited_for(small):
    with connection(small) as wire:
        wire.sendall(b"GET /model HTTP/1.1\r\nHost: serv")
        assert error(answer(wire)) == (408, "the head of the request did not arrive in 1 s")
        assert has_ended(wire)


def test_neither_is_the_head_of_a_second_request_on_a_connection(small):
    with connection(small) as wire:
        wire.sendall(GOOD)
        assert answer(wire)[0] == 200
        wire.sendall(b"GET /model HTT")
        assert error(answer(wire))[0] == 408


def test_who_connects_and_says_nothing_is_let_go(small):
    with connection(small) as wire:
        wire.settimeout(5.0)
        assert wire.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /model HTTP/1.1\r\nHost: service\r\nX-Junk: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /model?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: service\r\n\r\n",
        b"GET /model HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(600)) + b"\r\n",
        b"GET /model HTTP/1.1\r\nHost: service\r\nX-Junk: " + b"a" * 300_000,
    ],
    ids=["a header", "the line", "many headers", "without an end"],
)
def test_a_head_that_is_too_large_is_refused(small, sent):
    with connection(small) as wire:
        wire.sendall(sent)
        assert error(answer(wire)) == (431, "expected a request line and headers of at most 4,096 bytes, got more")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /model HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_told_so(small, sent):
    with connection(small) as wire:
        wire.sendall(sent + b"\r\n\r\n")
        assert error(answer(wire)) == (400, "expected a request of HTTP/1.1, got something else")
        assert has_ended(wire)


def test_a_body_that_breaks_the_protocol_is_told_so(small):
    with connection(small) as wire:
        wire.sendall(head("/predict_file", "Transfer-Encoding: chunked") + b"zz\r\nnothing\r\n")
        assert error(answer(wire)) == (400, "expected a request of HTTP/1.1, got something else")
        assert has_ended(wire)


def test_a_good_request_before_nonsense_is_answered(small):
    with connection(small) as wire:
        wire.sendall(GOOD + b"\x00\x01nonsense\r\n\r\n")
        status, headers, _ = answer(wire)
        assert (status, headers["connection"]) == (200, "close")
        assert has_ended(wire)


def test_more_at_a_time_than_is_taken_is_to_be_tried_again(small):
    arrays = {"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)}
    report = {"content": npz_bytes(arrays), "headers": {"accept": "text/html"}, "timeout": 60.0}
    body = npy_bytes(galaxies(GRIZ, 1))
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(httpx.post, f"{small}/evaluate", **report) for _ in range(2)]
        wait_for(lambda: gauge(small, "photoz_in_flight") == 2)
        refused = httpx.post(f"{small}/predict_file", content=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json() == {"error": "the service works on 2 requests already; try again in a second"}
        with connection(small) as wire:  # in pieces, and with others behind it on the same connection
            request = head("/predict_file", f"Content-Length: {len(body)}", "X-Request-Id: mine") + body
            wire.sendall(request[:3000])
            status, headers, _ = answer(wire)
            assert (status, headers["x-request-id"], headers["retry-after"]) == (429, "mine", "1")
            wire.sendall(request[3000:] + request)
            assert error(answer(wire))[0] == 429
            wire.sendall(b"GET /livez HTTP/1.1\r\nHost: service\r\n\r\n")
            assert answer(wire)[0] == 200
        assert httpx.get(f"{small}/livez").status_code == httpx.get(f"{small}/readyz").status_code == 200
        assert [one.result().status_code for one in slow] == [200, 200]
    assert httpx.post(f"{small}/predict_file", content=body).status_code == 200


def test_slow_senders_take_the_place_of_nobody(small):
    held = [connection(small) for _ in range(20)]
    wires = [one.__enter__() for one in held]
    try:
        for wire in wires:
            wire.sendall(head("/predict_file", "Content-Length: 8000") + b"\x93NUMPY")
        assert httpx.post(f"{small}/predict_file", content=npy_bytes(galaxies(GRIZ, 1))).status_code == 200
    finally:
        for one in held:
            one.__exit__(None, None, None)


def test_all_room_is_given_back(small):
    wait_for(lambda: gauge(small, "photoz_held_bytes") == gauge(small, "photoz_in_flight") == 0)


def test_room_is_for_all_and_a_share_for_one():
    room = Room(total=100, share=60)
    first, second = room.reserve(), room.reserve()
    first.take(60, "a body of")
    with pytest.raises(TooLarge, match="a body of at most 60 bytes"):
        first.take(1, "a body of")
    with pytest.raises(Full):
        second.take(41, "it is")
    second.cover(40, "it")
    second.cover(30, "it")  # it has as much
    assert room.used == 100
    first.release()
    second.release()
    assert room.used == 0


def test_what_a_body_unpacks_into_may_be_as_large_as_a_body():
    room = Room(total=100, share=60)
    request = room.reserve()
    request.take(40, "a body of")
    with pytest.raises(TooLarge, match="a file of at most 60 bytes, got 61"):
        request.take_beside(61, "a file of")
    request.take_beside(60, "a file of")
    assert room.used == 100
    request.release()
    request.take(60, "a body of")
    with pytest.raises(TooLarge, match="the body and a file of at most 100 bytes"):
        request.take_beside(41, "a file of")


@pytest.mark.parametrize(
    ("headers", "chunks", "held"),
    [
        ({}, [b"\x93NUMPY", b"1234"], 10),
        ({}, [b' {"a":', b" [1, 2]}"], 14 + 512 + 192 + 64),
        ({b"inference-header-content-length": b"4"}, [b"{}", b"  [[[[[[[["], 12 + 512),
        ({b"inference-header-content-length": b"-4"}, [b"{}"], 2 + 512),
    ],
    ids=["file", "json", "protocol", "nonsense"],
)
def test_a_body_takes_room_by_what_it_is(headers, chunks, held):
    reservation = unlimited()
    body = Body(headers, reservation)
    for chunk in chunks:
        body.add(chunk)
    assert (body.size, reservation.held) == (sum(map(len, chunks)), held)


def test_there_is_an_end_to_json_whatever_it_is():
    body = Body({}, unlimited())
    body.add(b"[" + bytes(json_size.MOST - 1))
    with pytest.raises(TooLarge, match="at most 16,777,216 bytes of JSON"):
        body.add(b" ")
    binary = Body({b"inference-header-content-length": b"2"}, unlimited())
    binary.add(b"{}" + bytes(json_size.MOST))


def test_the_room_follows_from_the_memory():
    limits = Limits.from_environment({})
    assert limits.memory == min(max(available_memory() // 8, 64 * MIB), 1024 * MIB)
    assert limits.body == limits.memory // 2
    assert Limits.from_environment({"PHOTOZ_MAX_MEMORY": "1000"}).body == 500
    for size in ("0", "2g", "-1"):
        with pytest.raises(InvalidInput, match=f"PHOTOZ_MAX_BODY={size} cannot be used: expected a whole number"):
            Limits.from_environment({"PHOTOZ_MAX_BODY": size})
    with pytest.raises(InvalidInput, match="PHOTOZ_TIMEOUT=5m cannot be used: expected a number above 0"):
        Limits.from_environment({"PHOTOZ_TIMEOUT": "5m"})


def test_no_body_may_be_larger_than_all_of_the_room():
    memory = {"PHOTOZ_MAX_MEMORY": "1000"}
    assert Limits.from_environment(memory | {"PHOTOZ_MAX_BODY": "1000"}).body == 1000
    with pytest.raises(InvalidInput, match="PHOTOZ_MAX_BODY=1001 cannot be used: expected PHOTOZ_MAX_MEMORY, 1000, or"):
        Limits.from_environment(memory | {"PHOTOZ_MAX_BODY": "1001"})
