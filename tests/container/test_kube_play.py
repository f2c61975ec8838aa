"""The Deployment of deploy/kubernetes, run as a real pod by podman: what it says of rights and of the end is so."""

import json
import os
import time

import pytest
import yaml
from containers import Container
from running import ROOT

NAME = f"photoz-test-{os.getpid()}"

pytestmark = [pytest.mark.container, pytest.mark.slow]


@pytest.fixture(scope="module")
def play_file(engine, image, tmp_path_factory):
    """Write the Deployment of the base with the image that there is."""
    if "podman" not in engine.name:
        pytest.skip(f"{engine.name} plays no manifests")
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    deployment["metadata"]["name"] = NAME
    deployment["spec"]["template"]["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": "Never"}
    path = tmp_path_factory.mktemp("play") / "deployment.yaml"
    path.write_text(yaml.safe_dump(deployment))
    return str(path)


@pytest.fixture
def played(engine, play_file):
    """Start the pod; it is not ready yet."""
    try:
        engine("kube", "play", "--network=none", play_file)
        yield Container(engine, f"{NAME}-pod-photoz")
    finally:
        engine("kube", "down", "--force", play_file, check=False)


def ends_well(container: Container) -> bool:
    """End the pod; say whether it did so by itself, long before its six minutes were up."""
    begun = time.monotonic()
    container.engine("pod", "stop", f"{NAME}-pod")
    status = container.engine.said("inspect", "--format={{.State.ExitCode}}", container.name)
    return status == "0" and time.monotonic() - begun < 30


def test_it_may_do_little_and_does_its_work(played):
    played.wait_until_ready()
    status = dict(line.split(":", 1) for line in played.run("cat", "/proc/1/status").stdout.decode().splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"  # a filter

    played.run("touch", "/tmp/x")
    for path in ("/app/x", "/x", "/home/x"):  # podman puts folders in memory over /run and /var/tmp
        assert b"Read-only file system" in played.run("touch", path, check=False).stderr, path

    assert b"PHOTOZ_THREADS=2" in played.run("env").stdout.splitlines()  # as many as the CPUs that were requested

    answer = json.loads(played.ask("/predict_file", (ROOT / "examples" / "cutouts.npz").read_bytes()))
    assert len(answer["z_mean"]) == len(answer["object_id"]) > 0
    assert ends_well(played)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.5])
def test_it_ends_while_it_starts(played, seconds):
    # Process 1 gets no SIGTERM for which it has no handler, and BentoML takes its time to have one.
    time.sleep(seconds)
    assert ends_well(played)
