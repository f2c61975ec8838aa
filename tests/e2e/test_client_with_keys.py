"""The client and the command against a service that requires API keys."""

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest

from photoz_client import AsyncPhotozClient, NotAuthorised, PhotozClient
from tests.running import ROOT, running_service

pytestmark = pytest.mark.e2e

IMAGES = np.load(ROOT / "examples" / "cutouts.npz")["images"]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    """A key made by the command of the service: its line is in the file `keys` next to this one."""
    home = tmp_path_factory.mktemp("keys")
    command = [sys.executable, "-m", "service", "keys", "create", "alice"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (home / "keys").write_text(made.stdout)
    (home / "key").write_text(made.stderr.splitlines()[-1])
    return home / "key"


@pytest.fixture(scope="module")
def service(key_file, bundle_path):
    keys = key_file.with_name("keys")
    with running_service(key_file.parent, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=keys) as running:
        yield running


@pytest.fixture(autouse=True)
def no_key_in_environment(monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEY", raising=False)


def predict(url, key):
    with PhotozClient(url, api_key=key) as client:
        return client.predict(IMAGES).z_mean


async def predict_async(url, key):
    async with AsyncPhotozClient(url, api_key=key) as client:
        return (await client.predict(IMAGES)).z_mean


def test_the_key_is_an_argument_or_an_environment_variable(service, key_file, monkeypatch):
    z_mean = predict(service.url, key_file.read_text())
    assert len(z_mean) == len(IMAGES)
    monkeypatch.setenv("PHOTOZ_API_KEY", key_file.read_text())
    np.testing.assert_array_equal(predict(service.url, None), z_mean)
    np.testing.assert_array_equal(asyncio.run(predict_async(service.url, None)), z_mean)


@pytest.mark.parametrize("key", [None, "an-unknown-key"])
@pytest.mark.parametrize("call", [predict, lambda url, key: asyncio.run(predict_async(url, key))])
def test_a_missing_or_unknown_key_fails_at_once(service, call, key):
    begin = time.monotonic()
    with pytest.raises(NotAuthorised, match="key") as refused:
        call(service.url, key)
    assert time.monotonic() - begin < 3  # no retries
    assert "an-unknown-key" not in repr(refused.value)


def test_the_command_takes_a_key_file_and_shows_no_key(service, key_file):
    program = ["-c", "from photoz_client.cli import main; main()", "predict", "examples/cutouts.npz"]
    command = [sys.executable, *program, "--url", service.url]
    refused, done = (
        subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)
        for options in ([], ["--api-key-file", str(key_file)])
    )
    assert refused.returncode != 0
    assert "key" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert done.returncode == 0, done.stderr
    assert key_file.read_text() not in done.stderr + done.stdout + service.log.read_text()
