"""The image serves without privileges, alone and as a pod of deploy/kubernetes, with only what serving needs."""

import hashlib
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import httpx
import pytest
import yaml

import photoz
from tests.container.conftest import HARDENED, Container
from tests.running import ROOT

pytestmark = pytest.mark.container

MAX_BYTES = 430e6  # on top of the base; OpenVINO's library and CPU plugin alone have 84e6, granian 21e6

POD = f"photoz-test-{os.getpid()}"

CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()


def test_answers_like_the_checkout_and_ends_with_status_zero(engine, image, service_url):
    expected = httpx.post(f"{service_url}/predict_file?pdf=true", content=CUTOUTS).content
    assert len(json.loads(expected)["pdf"]) == 8
    with engine.container(image, *HARDENED) as container:
        container.wait_until_ready()
        assert container.send("/predict_file?pdf=true", CUTOUTS) == expected
        assert container.send("/evaluate?plot=scatter", CUTOUTS, accept="image/png").startswith(b"\x89PNG")
        engine("stop", "--time=20", container.name)
        assert engine.output("inspect", "--format={{.State.ExitCode}}", container.name) == "0"


def test_another_bundle_can_be_mounted(engine, image, bundle_path):
    place = "/app/models/photoz"
    digest = json.loads((bundle_path / "card.json").read_text())["digest"]
    with engine.container(image, *HARDENED, f"--volume={bundle_path}:{place}:ro") as container:
        container.wait_until_ready()
        assert json.loads(container.send("/model"))["digest"] == digest
        assert f" {place} " in container.run("cat", "/proc/mounts").stdout.decode()


@pytest.fixture(scope="module")
def idle(engine, image):
    with engine.container(image, "--network=none", command=("sleep", "600")) as container:
        yield container


def test_user_can_write_only_temporary_files(idle):
    find = ("find", "/", "-xdev", "-writable", "-not", "-path", "/proc/*", "-not", "-type", "l")
    writable = {Path(line) for line in idle.run(*find, check=False).stdout.decode().split()}
    temporary = {Path("/tmp"), Path("/var/tmp"), Path("/dev"), Path("/run")}
    assert idle.run("id", "-u").stdout == b"10001\n"
    assert Path("/tmp") in writable
    assert not {path for path in writable if not temporary & {path, *path.parents}}


def test_image_has_only_what_serving_needs(idle):
    for tool in ("gcc", "cc", "g++", "make", "git", "curl"):
        assert idle.run("sh", "-c", f"command -v {tool}", check=False).returncode == 127, tool
    for module in ("tensorflow", "keras", "scipy", "pip", "pytest"):
        assert b"ModuleNotFoundError" in idle.run("python", "-c", f"import {module}", check=False).stderr, module
    sizes = idle.run("du", "--summarize", "--block-size=1", "/venv", "/app").stdout.decode().splitlines()
    assert sum(int(line.split()[0]) for line in sizes) < MAX_BYTES


def test_labels_describe_the_image(engine, image):
    config = json.loads(engine.output("image", "inspect", image))[0]["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["version"]) == ("photoz", "Apache-2.0", photoz.__version__)
    assert config["User"] == "10001:10001"
    assert "3000/tcp" in config["ExposedPorts"]


def test_second_build_is_identical(engine, image):
    again = os.environ.get("PHOTOZ_IMAGE_AGAIN")
    if not again:
        pytest.skip("no second build: PHOTOZ_IMAGE_AGAIN")
    first, second = contents(engine, image), contents(engine, again)
    assert len(first) > 5000
    assert first == second


def contents(engine, image: str) -> dict[str, tuple[int, int, str]]:
    """Return mode, owner, and SHA-256 or link target of each file of an image, by its path."""

    def content(files: tarfile.TarFile, file: tarfile.TarInfo) -> str:
        return hashlib.file_digest(files.extractfile(file), "sha256").hexdigest() if file.isreg() else file.linkname

    name = engine.output("create", image)
    try:
        export = subprocess.Popen([engine.name, "export", name], stdout=subprocess.PIPE)
        with export, tarfile.open(fileobj=export.stdout, mode="r|") as files:
            return {file.name: (file.mode, file.uid, content(files, file)) for file in files}
    finally:
        engine("rm", name)


@pytest.fixture
def pod(engine, image, tmp_path):
    """Start the Deployment of the base with the image under test; it is not ready yet."""
    if "podman" not in engine.name:
        pytest.skip(f"{engine.name} cannot run Kubernetes manifests")
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    deployment["metadata"]["name"] = POD
    deployment["spec"]["template"]["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": "Never"}
    manifest = tmp_path / "deployment.yaml"
    manifest.write_text(yaml.safe_dump(deployment))
    try:
        engine("kube", "play", "--network=none", str(manifest))
        yield Container(engine, f"{POD}-pod-photoz")
    finally:
        engine("kube", "down", "--force", str(manifest), check=False)


def stop(container: Container) -> None:
    """Stop the pod, long before its six minutes are over."""
    begin = time.monotonic()
    container.engine("pod", "stop", f"{POD}-pod")
    assert container.engine.output("inspect", "--format={{.State.ExitCode}}", container.name) == "0"
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_pod_predicts_without_privileges(pod):
    pod.wait_until_ready()
    status = dict(line.split(":", 1) for line in pod.run("cat", "/proc/1/status").stdout.decode().splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")  # 2: a filter
    pod.run("touch", "/tmp/x")
    for path in ("/app/x", "/x", "/home/x"):  # podman mounts /run and /var/tmp in memory
        assert b"Read-only file system" in pod.run("touch", path, check=False).stderr, path
    assert b"PHOTOZ_THREADS=2" in pod.run("env").stdout.splitlines()  # the number of CPUs requested
    answer = json.loads(pod.send("/predict_file", CUTOUTS))
    assert len(answer["z_mean"]) == len(answer["object_id"]) > 0
    stop(pod)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.5, 1.0, 2.5])
def test_pod_can_be_stopped_while_it_starts(pod, delay):
    # Process 1 gets no SIGTERM without a handler, and BentoML installs its own late.
    time.sleep(delay)
    stop(pod)
