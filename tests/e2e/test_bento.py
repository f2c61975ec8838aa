"""The bento: built without a network, served from another folder, with the model that it was built with."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from running import ROOT, free_port, serve_environment, wait_until_ready

from photoz.model.bundle import ModelBundle
from photoz.model.card import Card

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()
NOWHERE = "http://127.0.0.1:9"  # a proxy that nobody is


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def environment(home: Path, **variables: object) -> dict[str, str]:
    """Return one without this checkout in it, and without a network."""
    proxies = {f"{name}_proxy": NOWHERE for name in ("http", "https")}
    found = serve_environment(home, **proxies, **variables)
    del found["PYTHONPATH"]
    return found


def run(home: Path, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", *command]
    done = subprocess.run(program, cwd=cwd, env=environment(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def bento(home: Path, bundle_path: Path) -> str:
    return run(home, "service.store", "build", str(bundle_path)).stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def newer(home: Path, bento: str, card: Card, bundle_path: Path) -> str:
    """Put a newer version of the model into the store, after the bento was built; returns its tag."""
    changed = card.model_copy(update={"version": f"{card.version}-newer"})
    bundle = ModelBundle.write(home / "newer", changed, bundle_path)
    return run(home, "service.store", "add", str(bundle.path)).stdout.strip()


@contextmanager
def served(home: Path, bento: str, empty: Path, **variables: object) -> Iterator[str]:
    port, log = free_port(), empty.with_suffix(".log")
    command = [sys.executable, "-m", "bentoml", "serve", bento, "--host", "127.0.0.1", "--port", str(port)]
    empty.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=empty, env=environment(home, **variables), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
    assert not os.listdir(empty)


def test_it_serves_its_own_model_from_any_folder(
    home: Path, bento: str, newer: str, card: Card, service_url: str, tmp_path: Path
) -> None:
    with served(home, bento, tmp_path / "empty") as url:
        assert httpx.get(f"{url}/model").json()["digest"] == card.digest
        assert httpx.get(f"{url}/v2/models/{card.name}").json()["versions"] == [card.version]
        assert f'photoz_model_info{{model="{card.name}",version="{card.version}"}}' in httpx.get(f"{url}/metrics").text
        answers = [httpx.post(f"{each}/predict_file", content=CUTOUTS).content for each in (url, service_url)]
    assert answers[0] == answers[1]


def test_the_operator_may_choose_another_by_its_tag(home: Path, bento: str, newer: str, tmp_path: Path) -> None:
    version = newer.partition(":")[2]
    with served(home, bento, tmp_path / "empty", PHOTOZ_BUNDLE=newer) as url:
        assert httpx.get(f"{url}/model").json()["version"] == version
        assert f'version="{version}"' in httpx.get(f"{url}/metrics").text


def test_a_checkout_takes_a_tag_as_well(home: Path, newer: str, start_service, card: Card) -> None:
    with start_service(home, PHOTOZ_BUNDLE=f"{newer.partition(':')[0]}:latest") as service:
        assert httpx.get(f"{service.url}/model").json()["version"] == f"{card.version}-newer"


def test_what_it_is_made_of(home: Path, bento: str) -> None:
    folder = home / "bentos" / bento.replace(":", "/")
    dockerfile = (folder / "env" / "docker" / "Dockerfile").read_text()
    assert "BENTOML_DO_NOT_TRACK=true" in dockerfile
    assert "apt-get" not in dockerfile
    assert {path.name for path in (folder / "src").iterdir()} == {"photoz", "service", "bentofile.yaml"}


def test_bentoml_build_takes_the_latest(home: Path, newer: str, tmp_path: Path) -> None:
    for name in ("photoz", "service", "requirements", "bentofile.yaml", "README.md"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    bento = run(home, "bentoml", "build", "--output", "tag", cwd=tmp_path).stdout.strip().removeprefix("__tag__:")
    assert f"tag: {newer}" in (home / "bentos" / bento.replace(":", "/") / "bento.yaml").read_text()
