"""The client and the command against a service that requires API keys."""

import subprocess
import sys
import time

import numpy as np
import pytest

from photoz_client import NotAuthorised, PhotozClient
from tests.running import ROOT, running_service

pytestmark = pytest.mark.e2e

IMAGES = np.load(ROOT / "examples" / "cutouts.npz")["images"]


@pytest.fixture(scope="module")
def service(tmp_path_factory, bundle_path):
    """A service that requires a key, and a file with a key from `python -m service keys create`."""
    home = tmp_path_factory.mktemp("keys")
    command = [sys.executable, "-m", "service", "keys", "create", "alice"]
    created = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (home / "keys").write_text(created.stdout)
    (home / "key").write_text(created.stderr.splitlines()[-1])
    with running_service(home, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=home / "keys") as running:
        yield running, home / "key"


def predict(url, key=None):
    with PhotozClient(url, api_key=key) as client:
        return client.predict(IMAGES).z_mean


def test_the_key_is_an_argument_or_an_environment_variable(service, monkeypatch):
    running, key_file = service
    z_mean = predict(running.url, key_file.read_text())
    assert len(z_mean) == len(IMAGES)
    monkeypatch.setenv("PHOTOZ_API_KEY", key_file.read_text())
    np.testing.assert_array_equal(predict(running.url), z_mean)


@pytest.mark.parametrize("key", [None, "unknown"])
def test_a_missing_or_unknown_key_fails_at_once(service, key):
    begin = time.monotonic()
    with pytest.raises(NotAuthorised, match="key"):
        predict(service[0].url, key)
    assert time.monotonic() - begin < 3  # no retries


def test_the_command_takes_a_key_file_and_shows_no_key(service):
    running, key_file = service
    program = ["-c", "from photoz_client.cli import main; main()", "predict", "examples/cutouts.npz"]
    command = [sys.executable, *program, "--url", running.url, "--api-key-file", str(key_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert key_file.read_text() not in done.stderr + done.stdout + running.log.read_text()
