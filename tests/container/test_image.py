"""What the image promises to who runs it."""

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest
from containers import HARDENED
from running import ROOT

import photoz

pytestmark = pytest.mark.container

LARGEST = 400e6  # bytes beside the base; OpenVINO's library and plugin for CPUs alone are 84e6

CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()


def test_predicts_what_the_checkout_predicts_bit_for_bit(hardened, service_url):
    here = httpx.post(f"{service_url}/predict_file?pdf=true", content=CUTOUTS).content
    assert len(json.loads(here)["pdf"]) == 8
    assert hardened.ask("/predict_file?pdf=true", CUTOUTS) == here


def test_draws(hardened):
    assert hardened.ask("/evaluate?plot=scatter", CUTOUTS, accept="image/png").startswith(b"\x89PNG")


def test_another_bundle_can_be_mounted(engine, image, bundle_path):
    place = "/app/models/photoz"
    with engine.container(image, *HARDENED, f"--volume={bundle_path}:{place}:ro") as container:
        container.wait_until_ready()
        assert (
            json.loads(container.ask("/model"))["digest"]
            == json.loads((bundle_path / "card.json").read_text())["digest"]
        )
        assert f" {place} " in container.run("cat", "/proc/mounts").stdout.decode()


def test_ends_well_on_sigterm(engine, image):
    with engine.container(image, *HARDENED) as container:
        container.wait_until_ready()
        engine("stop", "--time=20", container.name)
        assert engine.said("inspect", "--format={{.State.ExitCode}}", container.name) == "0"


def test_nothing_in_it_belongs_to_its_user(engine, image):
    with engine.container(image, "--network=none", command=("sleep", "60")) as container:
        assert container.run("id", "-u").stdout == b"10001\n"
        ours = container.run(
            "find", "/", "-xdev", "-writable", "-not", "-path", "/proc/*", "-not", "-type", "l", check=False
        )
        places = {Path(place) for place in ours.stdout.decode().split()}
        outside = {
            place
            for place in places
            if not {Path("/tmp"), Path("/var/tmp"), Path("/dev"), Path("/run")} & {place, *place.parents}
        }
        assert not outside
        assert Path("/tmp") in places


@pytest.mark.parametrize("tool", ["gcc", "cc", "g++", "make", "git", "curl"])
def test_has_no_tool(engine, image, tool):
    done = engine("run", "--rm", "--network=none", image, "sh", "-c", f"command -v {tool}", check=False)
    assert (done.returncode, done.stdout) == (127, b"")


@pytest.mark.parametrize("module", ["tensorflow", "keras", "scipy", "pip", "pytest"])
def test_has_no_module(engine, image, module):
    done = engine("run", "--rm", "--network=none", image, "python", "-c", f"import {module}", check=False)
    assert b"ModuleNotFoundError" in done.stderr


def test_is_small(engine, image):
    said = engine.said(
        "run", "--rm", "--network=none", image, "du", "--summarize", "--block-size=1", "--total", "/venv", "/app"
    )
    assert int(said.splitlines()[-1].split()[0]) < LARGEST


def test_says_what_it_is(engine, image):
    config = json.loads(engine.said("image", "inspect", image))[0]["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "photoz"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == photoz.__version__
    assert config["User"] == "10001:10001"
    assert "3000/tcp" in config["ExposedPorts"]


def test_is_the_same_when_it_is_built_again(engine, image):
    again = os.environ.get("PHOTOZ_IMAGE_AGAIN")
    if not again:
        pytest.skip("no second build: PHOTOZ_IMAGE_AGAIN")
    first, second = contents(engine, image), contents(engine, again)
    assert len(first) > 5000
    assert first == second


def contents(engine, image: str) -> dict[str, tuple[int, int, str]]:
    """Return mode, owner and SHA-256, or the target of a link, of each file of an image, by its path."""
    name = engine.said("create", image)
    try:
        export = subprocess.Popen([engine.name, "export", name], stdout=subprocess.PIPE)
        with export, tarfile.open(fileobj=export.stdout, mode="r|") as files:
            return {file.name: (file.mode, file.uid, _content(files, file)) for file in files}
    finally:
        engine("rm", name)


def _content(files: tarfile.TarFile, file: tarfile.TarInfo) -> str:
    return hashlib.file_digest(files.extractfile(file), "sha256").hexdigest() if file.isreg() else file.linkname
