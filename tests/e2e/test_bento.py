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

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def environment(home, **variables):
    """Return an environment without this checkout on the path and without a network."""
    return serve_environment(home, **NO_NETWORK, **variables) | {"PYTHONPATH": ""}


def run(home, *command, cwd=ROOT):
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, cwd=cwd, env=environment(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def bento(home, bundle_path):
    """The tag of a bento."""
    return run(home, "service", "store", "build", str(bundle_path))


@pytest.fixture(scope="module")
def newer(home, bento, card, bundle_path):
    """The tag of a newer version of the model, stored after the bento was built."""
    changed = card.model_copy(update={"version": f"{card.version}-newer"})
    bundle = ModelBundle.write(home / "newer", changed, bundle_path)
    return run(home, "service", "store", "add", str(bundle.path))


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
            assert process.wait(timeout=30) == 0
    assert not os.listdir(folder)


def test_a_bento_serves_its_own_model_from_any_folder(home, bento, newer, card, service_url, tmp_path):
    with served(home, bento, tmp_path / "empty") as url:
        assert httpx.get(f"{url}/model").json()["digest"] == card.digest
        assert httpx.get(f"{url}/v2/models/{card.name}").json()["versions"] == [card.version]
        assert f'photoz_model_info{{model="{card.name}",version="{card.version}"}}' in httpx.get(f"{url}/metrics").text
        answers = [httpx.post(f"{each}/predict_file", content=CUTOUTS) for each in (url, service_url)]
        assert answers[0].content == answers[1].content
        assert "x-request-id" in answers[0].headers  # the middleware runs in BentoML's own server too
        assert httpx.get(f"{url}/nothing").json().keys() == {"error"}
        for path in re.findall(r'(?:src|href)="\.(.*)"', httpx.get(f"{url}/docs").text):
            assert httpx.get(url + path).status_code == 200


def test_the_operator_can_choose_another_model_by_its_tag(home, bento, newer, tmp_path):
    version = newer.partition(":")[2]
    with served(home, bento, tmp_path / "empty", PHOTOZ_BUNDLE=newer) as url:
        assert f'version="{version}"' in httpx.get(f"{url}/metrics").text


def test_a_checkout_takes_a_tag_too(home, newer, start_service):
    name, _, version = newer.partition(":")
    with start_service(home, PHOTOZ_BUNDLE=f"{name}:latest") as service:
        assert httpx.get(f"{service.url}/model").json()["version"] == version


def test_the_bento_contains_the_service_and_nothing_else(home, bento):
    folder = home / "bentos" / bento.replace(":", "/")
    dockerfile = (folder / "env" / "docker" / "Dockerfile").read_text()
    assert "BENTOML_DO_NOT_TRACK=true" in dockerfile
    assert "apt-get" not in dockerfile
    assert {path.name for path in (folder / "src").iterdir()} == {"photoz", "service", "examples", "bentofile.yaml"}


def test_bentoml_build_takes_the_latest_model(home, newer, tmp_path):
    for name in ("photoz", "service", "requirements", "bentofile.yaml", "README.md"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    bento = run(home, "bentoml", "build", "--output", "tag", cwd=tmp_path).removeprefix("__tag__:")
    assert f"tag: {newer}" in (home / "bentos" / bento.replace(":", "/") / "bento.yaml").read_text()
