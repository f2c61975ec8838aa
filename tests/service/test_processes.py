"""What the processes of the service load and listen on, what they answer beside predictions, and who waits for whom."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil

from service import page
from service.formats.negotiation import PREDICTIONS
from tests.running import run_serve, running_service
from tests.toys import galaxies, npy_bytes


def processes(service):
    parent = psutil.Process(service.process.pid)
    return [parent, *parent.children(recursive=True)]


def test_only_children_of_the_worker_load_matplotlib_and_none_tensorflow(service, post_npz, card):
    arrays = {"pdfs": np.ones((5, card.grid.n_bins)), "z_spec": np.linspace(0.1, 0.9, 5) * card.grid.z_max}
    assert post_npz("/evaluate?plot=scatter", arrays).status_code == 200
    (worker,) = service.workers
    maps = {process.pid: Path(f"/proc/{process.pid}/maps").read_text() for process in processes(service)}
    assert "openvino" in maps[worker.pid]
    children = {child.pid for child in worker.children()}
    for pid, text in maps.items():
        assert pid in children or "site-packages/matplotlib/" not in text
        assert "site-packages/tensorflow/" not in text


def test_processes_listen_on_the_port_of_the_service_alone(service):
    sockets = [one for process in processes(service) for one in process.net_connections("inet")]
    assert {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN} == {service.port}


def test_port_of_a_running_service_is_refused(service, bundle_path, tmp_path):
    """granian would share it."""
    ended = run_serve(tmp_path, service.port, PHOTOZ_BUNDLE=bundle_path)
    assert ended.returncode == 1
    assert ended.stderr == f"Error: cannot listen on 127.0.0.1:{service.port}: Address already in use\n"


def test_other_requests_are_answered_while_the_network_runs(service_url, card):
    body = npy_bytes(galaxies(card.image, 64).repeat(16, axis=0))
    waits = []
    with ThreadPoolExecutor(1) as threads, httpx.Client(base_url=service_url, timeout=120.0) as other:
        start = time.perf_counter()
        large = threads.submit(httpx.post, f"{service_url}/predict_file", content=body, timeout=120.0)
        while not large.done():
            begin = time.perf_counter()
            assert other.get("/livez").status_code == 200
            waits.append(time.perf_counter() - begin)
        duration = time.perf_counter() - start
    assert large.result().status_code == 200
    assert max(waits) < 0.5 * duration


def test_worker_ends_with_the_main_process(make_toy_bundle, tmp_path):
    with running_service(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path) as service:
        (worker,) = service.workers
        service.process.kill()
        worker.wait(5)


def test_address_with_a_slash_at_its_end_is_not_redirected(client):
    response = client.get("/model/", headers={"host": "elsewhere"})
    assert response.status_code == 404
    assert "location" not in response.headers


def test_openapi_document_lists_the_endpoints(client, card):
    response = client.get("/docs.json")
    document = response.json()
    assert set(document["paths"]) >= {"/predict", "/predict_file", "/evaluate", "/model", "/readyz"}
    predict = document["paths"]["/predict"]["post"]
    assert predict["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictRequest")
    assert list(predict["responses"]["200"]["content"]) == list(PREDICTIONS)
    options = {option["name"] for option in document["paths"]["/evaluate"]["post"]["parameters"]}
    assert options == {"plot", "num_images", "seed"}
    schemas = set(re.findall(r'"#/components/schemas/(\w+)"', response.text))
    assert schemas >= {"PredictRequest", "PredictResponse", "EvaluateResponse", "RequestJson", "ErrorResponse", "Card"}
    assert schemas <= set(document["components"]["schemas"])
    for name in document["paths"]:
        path = name.replace("{model_name}", card.name).replace("{model_version}", card.version)
        assert client.options(path).status_code == 405, name  # it exists, with other methods


def test_pages_load_nothing_from_elsewhere(client):
    home = client.get("/")
    assert (home.status_code, home.headers["location"]) == (307, "ui")
    for path in ("/docs", *page.FILES):
        answer = client.get(path)
        assert answer.status_code == 200
        if not path.endswith(".npz"):
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s]*(?=[\"'])", answer.text), path
    policy = client.get("/ui").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert client.get("/ui/../app.py").status_code == client.get("/ui/nothing.js").status_code == 404
