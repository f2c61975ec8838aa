"""The image PHOTOZ_IMAGE serves without privileges, alone and as a pod of deploy/kubernetes, with what it needs."""

import hashlib
import json
import os
import subprocess
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

import photoz
from tests.running import ROOT

pytestmark = [pytest.mark.container, pytest.mark.acceptance]

MAX_BYTES = 430e6  # on top of the base; OpenVINO's library and CPU plugin alone have 84e6, granian 21e6
POD = f"photoz-test-{os.getpid()}"
CUTOUTS = (ROOT / "examples" / "cutouts.npz").read_bytes()

# No network, nothing writable but /tmp, no privileges.
HARDENED = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"]
HARDENED += ["--memory=700m", "--env=OPENBLAS_CORETYPE", "--env=OPENBLAS_L2_SIZE"]  # the same arithmetic as here

# Runs inside the container, which has no network: sends stdin to a path and writes the answer to stdout.
SEND = """
import sys, urllib.request
path, accept = sys.argv[1:3]
body = sys.stdin.buffer.read()
request = urllib.request.Request("http://127.0.0.1:3000" + path, data=body or None, headers={"Accept": accept})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=60).read())
"""


@dataclass(frozen=True)
class Engine:
    name: str  # docker or podman

    def __call__(self, *arguments, stdin=b"", check=True):
        done = subprocess.run([self.name, *arguments], input=stdin, capture_output=True, timeout=300, check=False)
        if check and done.returncode:
            pytest.fail(f"{self.name} {' '.join(arguments)}: {done.stderr.decode()[-2000:]}")
        return done

    def output(self, *arguments):
        return self(*arguments).stdout.decode().strip()

    @contextmanager
    def container(self, image, *options, command=()):
        name = self.output("run", "--detach", *options, image, *command)
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", name)


@dataclass(frozen=True)
class Container:
    engine: Engine
    name: str

    def run(self, *command, stdin=b"", check=True):
        return self.engine("exec", "--interactive", self.name, *command, stdin=stdin, check=check)

    def send(self, path, body=b"", accept="*/*", check=True):
        return self.run("python", "-c", SEND, path, accept, stdin=body, check=check)

    def wait_until_ready(self):
        deadline = time.monotonic() + 180
        while self.send("/readyz", check=False).returncode:
            if time.monotonic() > deadline:
                pytest.fail(f"not ready:\n{self.engine('logs', self.name).stderr.decode()[-3000:]}")
            time.sleep(0.2)

    def exit_code(self):
        return self.engine.output("inspect", "--format={{.State.ExitCode}}", self.name)


@pytest.fixture(scope="session")
def engine():
    return Engine(os.environ.get("CONTAINER_ENGINE") or "podman")


@pytest.fixture(scope="session")
def image(engine):
    name = os.environ.get("PHOTOZ_IMAGE")
    if not name:
        pytest.skip("no image: run make image image-check")
    if engine("image", "inspect", name, check=False).returncode:
        pytest.exit(f"image {name} not found: run make image, or set IMAGE=...", returncode=1)
    return name


def test_answers_like_the_checkout_and_ends_with_status_zero(engine, image, service_url):
    expected = httpx.post(f"{service_url}/predict_file?pdf=true", content=CUTOUTS).content
    assert len(json.loads(expected)["pdf"]) == 8
    with engine.container(image, *HARDENED) as container:
        container.wait_until_ready()
        assert container.send("/predict_file?pdf=true", CUTOUTS).stdout == expected
        assert container.send("/evaluate?plot=scatter", CUTOUTS, accept="image/png").stdout.startswith(b"\x89PNG")
        engine("stop", "--time=20", container.name)
        assert container.exit_code() == "0"


def test_another_bundle_can_be_mounted(engine, image, bundle_path):
    place = "/app/models/photoz"
    digest = json.loads((bundle_path / "card.json").read_text())["digest"]
    with engine.container(image, *HARDENED, f"--volume={bundle_path}:{place}:ro") as container:
        container.wait_until_ready()
        assert json.loads(container.send("/model").stdout)["digest"] == digest
        assert f" {place} " in container.run("cat", "/proc/mounts").stdout.decode()


def test_image_has_labels_and_only_what_serving_needs_and_its_user_writes_only_temporary_files(engine, image):
    config = json.loads(engine.output("image", "inspect", image))[0]["Config"]
    labels = [config["Labels"][f"org.opencontainers.image.{name}"] for name in ("title", "licenses", "version")]
    assert labels == ["photoz", "Apache-2.0", photoz.__version__]
    assert (config["User"], "3000/tcp" in config["ExposedPorts"]) == ("10001:10001", True)
    with engine.container(image, "--network=none", command=("sleep", "600")) as idle:
        find = ("find", "/", "-xdev", "-writable", "-not", "-path", "/proc/*", "-not", "-type", "l")
        writable = {Path(line) for line in idle.run(*find, check=False).stdout.decode().split()}
        temporary = {Path("/tmp"), Path("/var/tmp"), Path("/dev"), Path("/run")}
        assert idle.run("id", "-u").stdout == b"10001\n"
        assert Path("/tmp") in writable
        assert not {path for path in writable if not temporary & {path, *path.parents}}
        for tool in ("gcc", "cc", "g++", "make", "git", "curl"):
            assert idle.run("sh", "-c", f"command -v {tool}", check=False).returncode == 127, tool
        for module in ("tensorflow", "keras", "scipy", "pip", "pytest"):
            assert b"ModuleNotFoundError" in idle.run("python", "-c", f"import {module}", check=False).stderr, module
        sizes = idle.run("du", "--summarize", "--block-size=1", "/venv", "/app").stdout.decode().splitlines()
        assert sum(int(line.split()[0]) for line in sizes) < MAX_BYTES


def test_second_build_is_identical(engine, image):
    again = os.environ.get("PHOTOZ_IMAGE_AGAIN")
    if not again:
        pytest.skip("no second build: PHOTOZ_IMAGE_AGAIN")
    first, second = contents(engine, image), contents(engine, again)
    assert len(first) > 5000
    assert first == second


def contents(engine, image):
    """Return mode, owner, and SHA-256 or link target of each file of an image, by its path."""

    def content(files, file):
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


def stop(pod):
    """Stop the pod, long before its six minutes are over."""
    begin = time.monotonic()
    pod.engine("pod", "stop", f"{POD}-pod")
    assert pod.exit_code() == "0"
    assert time.monotonic() - begin < 30


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
    answer = json.loads(pod.send("/predict_file", CUTOUTS).stdout)
    assert len(answer["z_mean"]) == len(answer["object_id"]) > 0
    stop(pod)


@pytest.mark.parametrize("delay", [0.5, 1.0, 2.5])
def test_pod_can_be_stopped_while_it_starts(pod, delay):
    # Process 1 gets no SIGTERM without a handler, and BentoML installs its own late.
    time.sleep(delay)
    stop(pod)
