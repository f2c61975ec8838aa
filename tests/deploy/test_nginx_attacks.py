"""What slow and silent clients cost a service behind deploy/nginx/photoz.conf."""

import socket
from contextlib import ExitStack, suppress

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes
from tests.deploy.nginx import MIB, needs_nginx, running_nginx
from tests.service.helpers import check_error, metric, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import GRIZ, galaxies, npy_bytes

pytestmark = needs_nginx

CHUNKED = head("/predict_file", "Transfer-Encoding: chunked")
CUTOUT = npy_bytes(galaxies(GRIZ, 1))
EVALUATION = npz_bytes({"pdfs": np.ones((200, 300)), "z_spec": np.linspace(0.01, 0.5, 200)})


def test_slow_uploads_leave_the_service_to_others(bare, nginx):
    begin = head("/predict_file", f"Content-Length: {3 * MIB}") + bytes(2 * MIB)
    with ExitStack() as stack:
        slow = [stack.enter_context(RawConnection(nginx.url)) for _ in range(40)]
        for upload in slow:  # 80 MiB in all, more than the memory of the service
            upload.send(begin)
        content = npz_bytes({"images": galaxies(GRIZ, 700)})
        assert len(content) > 5 * MIB
        assert httpx.post(f"{nginx.url}/predict_file", content=content, timeout=60.0).status_code == 200
        wait_for(lambda: metric(bare.url, "photoz_request_memory_bytes") == 0)
        slow[0].send(bytes(MIB))
        check_error(slow[0].read_response(), 400, "expected a .npy, .npz, FITS or HDF5 file")  # it arrived
        assert slow[1].is_closed()  # after the time limit, without an answer


def test_requests_of_one_address_are_limited(bare, tmp_path):
    with running_nginx(tmp_path, bare.port, NGINX_CONNECTIONS=2) as nginx:

        def post():
            return httpx.post(f"{nginx.url}/predict_file", content=CUTOUT)

        with RawConnection(nginx.url) as first, RawConnection(nginx.url) as second:
            for upload in (first, second):
                upload.send(head("/predict_file", "Content-Length: 9") + b"12345678")
            wait_for(lambda: post().status_code == 429)
            refused = post()
            check_error(refused, 429, "too many requests are in flight: try again")
            assert refused.headers["retry-after"] == "1"
            second.send(b"9")
            assert second.read_response().status_code == 400  # it arrived
            assert post().status_code == 200


def test_half_heads_and_idle_connections_do_not_reach_the_service(bare, nginx):
    (worker,) = bare.workers
    files, memory = worker.num_fds(), worker.memory_info().rss
    with ExitStack() as stack:
        for begin in [b"", head("/model", "X-Junk: " + 30_000 * "a", method="GET")[:-4]] * 300:
            connection = stack.enter_context(RawConnection(nginx.url))
            connection.send(begin)
        assert worker.num_fds() <= files + 1
        assert worker.memory_info().rss < memory + 4 * MIB
        assert httpx.post(f"{nginx.url}/predict_file", content=CUTOUT).status_code == 200
        assert connection.is_closed()  # after the time limit


def test_answers_that_are_not_read_do_not_hold_the_service(bare, nginx):
    content = npz_bytes({"images": galaxies(GRIZ, 700)})
    with RawConnection(nginx.url, receive_buffer=4096) as connection:
        done = metric(bare.url, "photoz_requests_total", route="/predict_file", status="200")
        connection.send(head("/predict_file?pdf=true", f"Content-Length: {len(content)}") + content)
        wait_for(lambda: metric(bare.url, "photoz_requests_total", route="/predict_file", status="200") > done)
        wait_for(lambda: metric(bare.url, "photoz_request_memory_bytes") == 0)
        assert metric(bare.url, "photoz_requests_in_flight") == 0
        assert np.shape(connection.read_response().json()["pdf"]) == (700, 300)


@pytest.mark.parametrize("begin", [b"", CHUNKED + b"0\r\n"], ids=["requests", "trailers"])
def test_endless_input_of_one_connection(bare, nginx, begin):
    """Pipelined requests whose answers are not read, and trailers without an end."""
    (worker,) = bare.workers
    memory = worker.memory_info().rss
    again = b"X-Trailer: " + 9000 * b"a" + b"\r\n" if begin else 1000 * head("/", method="GET")
    with RawConnection(nginx.url, receive_buffer=4096) as connection, suppress(OSError):  # it does not take more
        connection.set_timeout(1.0)
        connection.send(begin)
        for _ in range(20 * MIB // len(again)):
            connection.send(again)
    assert worker.memory_info().rss < memory + 8 * MIB
    assert httpx.post(f"{nginx.url}/predict_file", content=CUTOUT).status_code == 200


def test_idle_connections_make_room(nginx):
    with ExitStack() as stack:
        for _ in range(4500):  # more than nginx has
            stack.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(nginx.url).port), 20.0))
        assert httpx.post(f"{nginx.url}/predict_file", content=CUTOUT).status_code == 200


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("behind", [b"", head("/model", method="GET")], ids=["nothing", "a request"])
def test_work_for_a_client_that_has_gone_is_ended(bare, nginx, behind, resets):
    ended = {"route": "/evaluate", "status": "499"}
    before = metric(bare.url, "photoz_requests_total", **ended)
    with RawConnection(nginx.url) as connection:
        length = f"Content-Length: {len(EVALUATION)}"
        target = "/evaluate?plot=pdfs&num_images=36"  # several seconds
        connection.send(head(target, length, "Accept: image/svg+xml") + EVALUATION + behind)
        wait_for(lambda: metric(bare.url, "photoz_requests_in_flight") == 1)
        if resets:
            connection.reset_at_exit()
    wait_for(lambda: metric(bare.url, "photoz_requests_total", **ended) == before + 1)
