"""What the processes of the service do: which libraries they carry, what they refuse to start with, who waits."""

import io
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from running import ROOT, free_port, running_service, serve_command, serve_environment
from service.check import try_bundle
from service.settings import Settings
from toys import GRID_90, GRIZ, galaxies, npy_bytes, toy_network

from photoz.errors import InvalidBundle, InvalidInput
from photoz.io import npz


def processes(service):
    parent = psutil.Process(service.process.pid)
    return [parent, *parent.children(recursive=True)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_ever_carries_matplotlib_or_tensorflow(service, client, post_npz, card):
    arrays = {"pdfs": np.ones((5, card.grid.n_bins)), "z_spec": np.linspace(0.1, 0.9, 5) * card.grid.z_max}
    assert post_npz("/evaluate?plot=scatter", arrays).status_code == 200
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in processes(service)]
    assert any("openvino" in text for text in maps), "none of these is the process that predicts"
    for text in maps:
        assert "site-packages/matplotlib/" not in text
        assert "site-packages/tensorflow/" not in text


def test_other_requests_are_answered_while_the_network_works(service_url, card):
    body = npy_bytes(galaxies(card.image, 64).repeat(16, axis=0))
    waits = []
    with ThreadPoolExecutor(1) as threads, httpx.Client(base_url=service_url, timeout=120.0) as other:
        start = time.perf_counter()
        big = threads.submit(httpx.post, f"{service_url}/predict_file", content=body, timeout=120.0)
        while not big.done():
            began = time.perf_counter()
            assert other.get("/livez").status_code == 200
            waits.append(time.perf_counter() - began)
        duration = time.perf_counter() - start
    assert big.result().status_code == 200
    assert max(waits) < 0.5 * duration


def test_healthy_and_measured(client):
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    client.get("/model")
    assert 'photoz_requests_total{method="GET",route="/model",status="200"}' in client.get("/metrics").text


def test_the_openapi_document_tells_every_endpoint(client, card):
    document = client.get("/docs.json").json()
    assert set(document["paths"]) >= {"/predict", "/predict_file", "/evaluate", "/model", "/readyz"}
    predict = document["paths"]["/predict"]["post"]
    assert predict["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictRequest")
    assert set(predict["responses"]["200"]["content"]) == {"application/json", "text/csv", "application/x-npz"}
    options = {option["name"] for option in document["paths"]["/evaluate"]["post"]["parameters"]}
    assert options == {"plot", "num_images", "seed"}
    assert {"PredictRequest", "PredictResponse", "EvaluateResponse", "ErrorResponse", "Card"} <= set(
        document["components"]["schemas"]
    )


def test_the_page_at_the_root_reports_to_nobody(client):
    page = client.get("/").text
    assert "docs.json" in page
    assert "http" not in page.replace("<!DOCTYPE html>", "")


@pytest.fixture(scope="module")
def other_service(make_toy_bundle, tmp_path_factory):
    """Run 23x23 griz cutouts, 90 bins, no E(B-V), and at most three galaxies a request."""
    variables = {"PHOTOZ_BUNDLE": make_toy_bundle().path, "PHOTOZ_MAX_ROWS": 3}
    with running_service(tmp_path_factory.mktemp("other"), **variables) as running:
        yield running.url


def test_other_sizes_bands_and_grids_are_served_as_they_are(other_service):
    arrays = {"images": galaxies(GRIZ, 3), "z_spec": np.array([0.1, 0.5, 0.7])}
    answer = httpx.post(f"{other_service}/predict_file?pdf=true", content=npz.npz_bytes(arrays)).json()
    pdfs = np.array(answer["pdf"])
    assert pdfs.shape == (3, 90)
    np.testing.assert_allclose(pdfs @ GRID_90.centres, answer["z_mean"], atol=1e-9)
    evaluation = httpx.post(f"{other_service}/evaluate", content=npz.npz_bytes(arrays), timeout=60.0).json()
    assert evaluation["dropped"] == ["2"]


def test_reddening_is_not_assumed_for_a_network_that_does_not_take_it(other_service):
    answer = httpx.post(f"{other_service}/predict_file", content=npy_bytes(galaxies(GRIZ, 3))).json()
    assert [flag & 1 for flag in answer["flags"]] == [0, 0, 0]


def test_the_limit_of_rows_is_a_setting(other_service):
    response = httpx.post(f"{other_service}/predict_file", content=npy_bytes(galaxies(GRIZ, 4)))
    assert response.status_code == 413
    assert "at most 3 galaxies" in response.json()["error"]


def test_an_archive_that_unpacks_into_too_much_is_refused_before_it_is_unpacked(other_service):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=galaxies(GRIZ, 3), bomb=np.zeros(10**7))
    assert len(buffer.getvalue()) < 10**6
    response = httpx.post(f"{other_service}/predict_file", content=buffer.getvalue())
    assert response.status_code == 413
    assert "bytes unpacked, got 80," in response.json()["error"]


def test_a_bundle_with_one_byte_changed_is_refused_at_start_in_one_line(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    changed = tmp_path / "bundle" / "model.keras"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    result = subprocess.run(
        serve_command(free_port()),
        cwd=ROOT,
        env=serve_environment(tmp_path, PHOTOZ_BUNDLE=tmp_path / "bundle"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        f"photoz: {changed} is not the file that the bundle was sealed with: its sha256 differs"
    ]
    assert "Traceback" not in result.stdout


def test_a_network_with_other_bins_is_refused_at_start(make_toy_bundle):
    bundle = make_toy_bundle(network=toy_network(23, 4, 91, takes_ebv=False))
    with pytest.raises(InvalidBundle, match=r"its card says {'pdf': \(90,\)}"):
        try_bundle(Settings(bundle.path))


def test_a_folder_that_is_no_bundle_is_refused_at_start(tmp_path):
    with pytest.raises(InvalidBundle, match="is not a model bundle"):
        try_bundle(Settings(tmp_path))


def test_a_good_bundle_is_not_complained_of(make_toy_bundle):
    try_bundle(Settings(make_toy_bundle().path))


def test_openvino_does_not_report_to_its_maker(make_toy_bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    try_bundle(Settings(make_toy_bundle().path))
    assert not (tmp_path / "intel").exists()  # where it keeps the number that it reports under


@pytest.mark.parametrize(
    ("name", "value"),
    [("PHOTOZ_MAX_ROWS", "0"), ("PHOTOZ_THREADS", "two"), ("PHOTOZ_ENGINE", "abacus"), ("PHOTOZ_DRAW_TIMEOUT", "nan")],
)
def test_a_setting_that_cannot_be_used_is_named(name, value):
    with pytest.raises(InvalidInput, match=f"^{name}={value} cannot be used: "):
        Settings.from_environment({name: value})


def test_settings_come_from_the_environment_they_are_given():
    settings = Settings.from_environment({"PHOTOZ_MAX_ROWS": " 7 ", "PHOTOZ_BUNDLE": "/models/other"})
    assert (settings.max_rows, settings.bundle, settings.engine) == (7, Path("/models/other"), "auto")
    assert Settings.from_environment({}).bundle == ROOT / "models" / "photoz"
