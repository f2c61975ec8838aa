"""A bento: built without network access, served from another folder with the model that it was built with."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from photoz.model.bundle import ModelBundle
from tests.running import ROOT, free_port, serve_environment, wait_until_ready

pytestmark = pytest.mark.acceptance

CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()


def environment(home, **variables):
    """Return an environment without this checkout on the path and without a network."""
    nowhere = "http://127.0.0.1:9"
    return serve_environment(home, http_proxy=nowhere, https_proxy=nowhere, **variables) | {"PYTHONPATH": ""}


def run(home, *command, cwd=ROOT):
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, cwd=cwd, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tags(home, card, bundle_path):
    """The tags of a bento, and of a newer version of the model, stored after the bento was built."""
    bento = run(home, "service", "store", "build", str(bundle_path))
    changed = card.model_copy(update={"version": f"{card.version}-newer"})
    bundle = ModelBundle.write(home / "newer", changed, bundle_path)
    return bento, run(home, "service", "store", "add", str(bundle.path))


@contextmanager
def served(home, bento, folder, **variables):
    """Run `bentoml serve` in an empty folder, which must stay empty."""
    port, log = free_port(), folder.with_suffix(".log")
    command = [sys.executable, "-m", "bentoml", "serve", bento, "--host", "127.0.0.1", "--port", str(port)]
    folder.mkdir()
    with log.open("wb") as output:
        variables = environment(home, **variables)
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
    assert not os.listdir(folder)


def test_a_bento_serves_its_own_model_from_any_folder(home, tags, card, service_url, tmp_path):
    with served(home, tags[0], tmp_path / "empty") as url, httpx.Client(base_url=url, timeout=60.0) as client:
        assert client.get("/model").json()["digest"] == card.digest
        assert client.get(f"/v2/models/{card.name}").json()["versions"] == [card.version]
        assert f'photoz_model_info{{model="{card.name}",version="{card.version}"}}' in client.get("/metrics").text
        answer = client.post("/predict_file", content=CUTOUTS)
        assert answer.content == httpx.post(f"{service_url}/predict_file", content=CUTOUTS, timeout=60.0).content
        assert "x-request-id" in answer.headers  # the middleware runs in BentoML's own server too
        assert client.get("/nothing").json().keys() == {"error"}
        for path in re.findall(r'(?:src|href)="\.(.*)"', client.get("/docs").text):
            assert client.get(path).status_code == 200


def test_the_operator_can_choose_another_model_by_its_tag(home, tags, card, tmp_path):
    with served(home, tags[0], tmp_path / "empty", PHOTOZ_BUNDLE=f"{card.name}:latest") as url:
        assert httpx.get(f"{url}/model", timeout=60.0).json()["version"] == f"{card.version}-newer"


def test_a_bento_contains_the_service_and_nothing_else_and_bentoml_builds_it_with_the_latest_model(
    home, tags, tmp_path
):
    bento = home / "bentos" / tags[0].replace(":", "/")
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "BENTOML_DO_NOT_TRACK=true" in dockerfile
    assert "apt-get" not in dockerfile
    assert {path.name for path in (bento / "src").iterdir()} == {"photoz", "service", "examples", "bentofile.yaml"}
    for name in ("photoz", "service", "requirements", "bentofile.yaml", "README.md"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    built = run(home, "bentoml", "build", "--output", "tag", cwd=tmp_path).removeprefix("__tag__:")
    assert f"tag: {tags[1]}" in (home / "bentos" / built.replace(":", "/") / "bento.yaml").read_text()
