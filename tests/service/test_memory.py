"""What an outsider sends to take memory from a service with a budget of 128 MiB, without a key."""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from service.settings import BASE_MEMORY_BYTES
from tests.running import running_service
from tests.service.helpers import metric, post, wait_for
from tests.service.raw_http import RawConnection, head
from tests.toys import npy_bytes

pytestmark = pytest.mark.acceptance

BUDGET = 128 * 1024 * 1024
BESIDE = 35_000_000  # bytes of what a worker needs for any request
INFER = "/v2/models/photoz/infer"
LISTS = b" " * 64 + b'{"images":[' + b"[]," * (BUDGET // 6) + b"[]]}"


@pytest.fixture(scope="module")
def running(bundle_path, tmp_path_factory):
    limits = {"PHOTOZ_MAX_MEMORY_BYTES": BUDGET, "PHOTOZ_REQUEST_TIMEOUT": 15}
    with running_service(tmp_path_factory.mktemp("memory"), PHOTOZ_BUNDLE=bundle_path, **limits) as running:
        yield running


def memory(worker, name):
    return 1024 * int(Path(f"/proc/{worker.pid}/status").read_text().split(f"{name}:")[1].split()[0])


@pytest.fixture(scope="module")
def expected(running, images):
    return post(running.url, "/predict_file", npy_bytes(images)).json()["z_mean"]


@pytest.fixture(autouse=True)
def _attacked(running, images, expected):
    """The worker takes no more than twice the budget (docs/operations.md#size), and answers afterwards."""
    (worker,) = running.workers
    before = memory(worker, "VmRSS")  # with what the kernel and the allocators may still hold of an earlier test
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # the peak is that from now on
    yield
    assert memory(worker, "VmHWM") < min(before + BESIDE, BASE_MEMORY_BYTES) + 2 * BUDGET
    wait_for(lambda: metric(running.url, "photoz_request_memory_bytes") == 0)
    assert post(running.url, "/predict_file", npy_bytes(images)).json()["z_mean"] == expected
    assert running.workers == [worker]


def zeros_of_one_byte(n, name):
    """Return a compressed request of n galaxies that grows when it is unpacked and converted."""
    if name == "tensor":
        zeros = np.zeros((n, 64, 64, 5), np.int8)
        tensor = {"name": "images", "datatype": "INT8", "shape": zeros.shape}
        message = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": zeros.nbytes}}]}).encode()
        headers = {"content-encoding": "deflate", "inference-header-content-length": str(len(message))}
        return INFER, zlib.compress(message + zeros.tobytes(), 9), headers
    pdfs = {"pdfs": np.ones((n, 180), np.int8), "z_spec": np.full(n, 0.1)}
    arrays = pdfs if name == "pdfs" else {"images": np.zeros((n, 64, 64, 5), np.float32)}
    np.savez_compressed(buffer := io.BytesIO(), **arrays)
    return "/evaluate" if name == "pdfs" else "/predict_file", buffer.getvalue(), {}


@pytest.mark.parametrize(
    ("n", "name", "statuses"),
    [
        *((n, "tensor", {200, 429}) for n in (780, 390)),
        (190, "archive", {200, 429}),
        (102_400, "pdfs", {413, 429}),
    ],
)
def test_numbers_count_as_what_they_are_unpacked_and_converted_to(running, n, name, statuses):
    path, content, headers = zeros_of_one_byte(n, name)
    with ThreadPoolExecutor(12) as threads:
        answers = threads.map(lambda _: post(running.url, path, content, **headers), range(48))
        assert {answer.status_code for answer in answers} <= statuses


def test_json_is_refused_before_it_is_decoded(running):
    assert {post(running.url, path, LISTS).status_code for path in ("/predict", "/evaluate", INFER)} == {413}


def test_answers_that_are_not_read_count_until_the_client_loses_them(running, card):
    content = npy_bytes(np.ones((600, *card.image.shape), np.float16))
    with ExitStack() as stack:
        for _ in range(6):
            connection = stack.enter_context(RawConnection(running.url, receive_buffer=4096))
            connection.send(head("/predict_file?pdf=true", f"Content-Length: {len(content)}") + content)
        wait_for(lambda: metric(running.url, "photoz_requests_in_flight") > 0)
        wait_for(lambda: metric(running.url, "photoz_requests_in_flight") == 0)
