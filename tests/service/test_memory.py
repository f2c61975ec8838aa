"""What an outsider sends to take memory, places or time from a service with a budget of 128 MiB; all without a key.

Each of these did harm once: `largest` is the memory of the worker beyond what it has when idle, in MB.
"""

import asyncio
import gc
import io
import json
import threading
import time
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from photoz.errors import TooLarge
from service.steps import offload
from tests.running import running_service
from tests.service.helpers import check_error, metric, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import npy_bytes

MAX_MEMORY = 128 * 1024 * 1024
MIB = 1024 * 1024
INFER = "/v2/models/photoz/infer"


@pytest.fixture(scope="module")
def running(bundle_path, tmp_path_factory):
    limits = {"PHOTOZ_MAX_MEMORY_BYTES": MAX_MEMORY, "PHOTOZ_REQUEST_TIMEOUT": 15, "PHOTOZ_HEADER_TIMEOUT": 3}
    with running_service(tmp_path_factory.mktemp("memory"), PHOTOZ_BUNDLE=bundle_path, **limits) as running:
        yield running


@pytest.fixture
def attacked(running, images):
    """Measure an attack: the worker's memory, probes in the meantime, and a good request after it."""
    content = npy_bytes(images)
    expected = httpx.post(f"{running.url}/predict_file", content=content, timeout=60.0).json()
    (worker,) = running.workers
    status = Path(f"/proc/{worker.pid}/status")

    def peak() -> float:
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1000

    @contextmanager
    def measure(largest: float, slowest: float = 0.5):
        Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # the peak is that from now on
        before, seconds, over = peak(), [], threading.Event()

        def probe() -> None:
            with httpx.Client(base_url=running.url, timeout=20.0) as client:
                while not (seconds and over.is_set()):
                    begin = time.monotonic()
                    assert client.get("/livez").status_code == 200
                    seconds.append(time.monotonic() - begin)
                    time.sleep(0.02)

        with ThreadPoolExecutor(1) as thread:
            probing = thread.submit(probe)
            try:
                yield running.url
            finally:
                over.set()
            probing.result()
        assert sorted(seconds)[int(0.99 * (len(seconds) - 1))] < slowest
        assert peak() - before < largest
        wait_for(lambda: metric(running.url, "photoz_request_memory_bytes") == 0)
        answer = httpx.post(f"{running.url}/predict_file", content=content, timeout=60.0)
        assert answer.status_code == 200
        assert answer.json()["z_mean"] == expected["z_mean"]
        assert running.workers == [worker]

    return measure


ONE = npy_bytes(np.ones((1, 64, 64, 5), np.float32))
EMPTY_LISTS = b" " * 64 + b'{"images":[' + b"[]," * 20 * MIB + b"[]]}"


@pytest.mark.parametrize("path", ["/predict", "/evaluate", INFER])
@pytest.mark.parametrize("header", [{}, {"inference-header-content-length": "0"}], ids=["", "header"])
def test_json_is_refused_before_it_is_decoded(attacked, path, header):
    is_tensors = header and path == INFER  # which may be large, and are joined
    with attacked(largest=150 if is_tensors else 80) as url:
        response = httpx.post(f"{url}{path}", content=EMPTY_LISTS, headers=header, timeout=60.0)
        assert response.status_code == (400 if is_tensors else 413)


def send_until_closed(url: str, first: bytes, again: bytes, limit: int) -> int:
    """Send more and more, and read nothing; return how many bytes the service took."""
    sent = 0
    with RawConnection(url) as connection, suppress(OSError):
        connection.send(first)
        connection.set_timeout(2.0)
        while sent < limit:
            connection.send(again)
            sent += len(again)
    return sent


def test_trailers_without_an_end(attacked):
    with attacked(largest=30) as url:
        first = head("/predict_file", "Transfer-Encoding: chunked") + b"0\r\n"
        assert send_until_closed(url, first, b"X-Trailer: " + b"a" * 4000 + b"\r\n", 60 * MIB) < 10 * MIB


def test_pipelined_requests_whose_answers_are_not_read(attacked):
    with attacked(largest=30) as url:
        assert send_until_closed(url, b"", head("/", method="GET") * 1000, 60 * MIB) < 20 * MIB


def test_answers_that_are_not_read(attacked, card):
    """They count in the budget until they are sent; a client that does not read them loses them in the end."""
    n = 600
    content = npy_bytes(np.ones((n, *card.image.shape), np.float16))
    request = head("/predict_file?pdf=true", f"Content-Length: {len(content)}") + content
    with attacked(largest=200) as url, ExitStack() as stack:
        for _ in range(6):
            connection = stack.enter_context(RawConnection(url, receive_buffer=4096))
            connection.send(request)
        wait_for(lambda: metric(url, "photoz_requests_in_flight") > 0)
        wait_for(lambda: metric(url, "photoz_queue_rows") == 0, 60)
        assert httpx.get(f"{url}/model").status_code == 200
        wait_for(lambda: metric(url, "photoz_requests_in_flight") == 0)


def grown(shape: tuple[int, ...], name: str) -> tuple[str, bytes, dict[str, str]]:
    """Return a request of zeros, of one byte each and compressed."""
    zeros = np.zeros(shape, np.int8)
    if name == "pdfs":
        np.savez_compressed(buffer := io.BytesIO(), pdfs=zeros + np.int8(1), z_spec=np.full(len(zeros), 0.1))
        return "/evaluate", buffer.getvalue(), {}
    parameters = {"binary_data_size": zeros.nbytes}
    tensor = {"name": "images", "datatype": "INT8", "shape": shape, "parameters": parameters}
    message = json.dumps({"inputs": [tensor]}).encode()
    content = zlib.compress(message + zeros.tobytes(), 9)
    headers = {"content-encoding": "deflate", "inference-header-content-length": str(len(message))}
    return INFER, content, headers


@pytest.mark.parametrize(
    ("shape", "name"), [((102_400, 180), "pdfs"), ((780, 64, 64, 5), "images"), ((390, 64, 64, 5), "images")]
)
def test_numbers_count_as_what_they_are_converted_to(attacked, shape, name):
    path, content, headers = grown(shape, name)
    with attacked(largest=250) as url, ThreadPoolExecutor(12) as threads:
        send = lambda _: httpx.post(f"{url}{path}", content=content, headers=headers, timeout=60.0).status_code  # noqa: E731
        assert set(threads.map(send, range(48))) <= {200, 400, 413, 429}


def test_small_archives_are_unpacked_beside_other_requests(attacked):
    np.savez_compressed(buffer := io.BytesIO(), images=np.zeros((190, 64, 64, 5), np.float32))
    assert len(buffer.getvalue()) < 256 * 1024
    with attacked(largest=200) as url, ThreadPoolExecutor(6) as threads:
        send = lambda _: httpx.post(f"{url}/predict_file", content=buffer.getvalue(), timeout=60.0).status_code  # noqa: E731
        assert set(threads.map(send, range(30))) <= {200, 429}


def test_chunks_of_one_byte(attacked):
    with attacked(largest=20) as url, RawConnection(url) as connection:
        connection.send(head("/predict_file", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n")
        check_error(connection.read_response(), 400, "expected a .npy, .npz, FITS or HDF5 file, got 5000 bytes")


def test_nothing_of_a_refused_request_is_kept():
    async def refuse():
        arrays = {"pdfs": Held((1000,))}
        held = weakref.ref(arrays["pdfs"])
        with pytest.raises(TooLarge):
            await offload(_refuse, arrays)
        del arrays
        return held

    gc.disable()  # which would find it some time, when many such arrays have filled the memory
    try:
        held = asyncio.run(refuse())
        wait_for(lambda: held() is None)  # the thread may still return from the call
    finally:
        gc.enable()


class Held(np.ndarray):
    """An array that can be referred to weakly."""


def _refuse(arrays):
    raise TooLarge("too many")
