"""What the processes of the service load, listen on and are limited to, and what they answer beside predictions."""

import re
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from photoz.estimates import COLUMNS
from photoz.processes import process_pool
from service import files, page
from service.formats.negotiation import PREDICTIONS


def test_processes_load_and_listen_on_what_they_need_alone(service, post_npz, card):
    arrays = {"pdfs": np.ones((5, card.grid.n_bins)), "z_spec": np.linspace(0.1, 0.9, 5) * card.grid.z_max}
    assert post_npz("/evaluate?plot=scatter", arrays).status_code == 200
    parent, (worker,) = psutil.Process(service.process.pid), service.workers
    children, ports = worker.children(), []
    for process in [parent, *parent.children(), *children]:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # a child of another test has ended
            mapped = Path(f"/proc/{process.pid}/maps").read_text()
            assert process in children or "site-packages/matplotlib/" not in mapped
            assert process != worker or "openvino" in mapped
            assert "site-packages/tensorflow/" not in mapped
            ports += [one.laddr.port for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert set(ports) == {service.port}


def test_openapi_document_lists_the_endpoints(client, card):
    response = client.get("/docs.json")
    document = response.json()
    assert set(document["paths"]) >= {"/predict", "/predict_file", "/evaluate", "/model", "/readyz"}
    predict, evaluate = (document["paths"][path]["post"] for path in ("/predict", "/evaluate"))
    assert predict["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictRequest")
    assert list(predict["responses"]["200"]["content"]) == list(PREDICTIONS)
    assert {option["name"] for option in evaluate["parameters"]} == {"plot", "num_images", "seed"}
    assert client.get("/schema.json").json()["name"] == "Photoz"  # BentoML's own
    schemas = set(re.findall(r'"#/components/schemas/(\w+)"', response.text))
    assert schemas >= {"PredictRequest", "PredictResponse", "EvaluateResponse", "RequestJson", "ErrorResponse", "Card"}
    assert schemas <= set(document["components"]["schemas"])
    for name in document["paths"]:
        path = name.replace("{model_name}", card.name).replace("{model_version}", card.version)
        assert client.options(path).status_code == 405, name  # it exists, with other methods


def test_pages_load_nothing_from_elsewhere(client):
    home, slash = client.get("/"), client.get("/model/", headers={"host": "localhost:1"})
    assert (home.status_code, home.headers["location"]) == (307, "ui")
    assert (slash.status_code, "location" in slash.headers) == (404, False)  # it would name the host
    for path in ("/docs", *page.FILES):
        answer = client.get(path)
        assert answer.status_code == 200
        if not path.endswith((".npz", "/samp.js")):
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s]*(?=[\"'])", answer.text), path
    assert client.get("/ui/options.json").json()["columns"] == [*COLUMNS[1:], "pdf"]
    policy = client.get("/ui").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ")
    assert client.get("/ui/../app.py").status_code == client.get("/ui/nothing.js").status_code == 404


def limits_within():
    """Limit this process; return the limits on its processor time, its data beyond 2**30 bytes, and its files."""
    files.limit_resources(2**30, 7)
    data, limit = resource.getrlimit(resource.RLIMIT_DATA)
    used = 1024 * int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    seconds, _ = signal.getitimer(signal.ITIMER_PROF)
    return 6 < seconds < 8, resource.getrlimit(resource.RLIMIT_FSIZE), data == limit, abs(limit - 2**30 - used) < 2**24


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_limits_of_a_child_that_reads_a_file():
    with process_pool(1) as pool:
        assert pool.schedule(limits_within).result(600) == (True, (0, 0), True, True)
