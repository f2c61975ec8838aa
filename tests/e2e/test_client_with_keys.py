"""The real client and command against a real service that wants keys."""

import asyncio
import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from running import ROOT, running_service

from photoz_client import AsyncPhotozClient, NotAuthorised, PhotozClient

KEY = "a-key-that-nobody-guesses"


@pytest.fixture(scope="module")
def closed(tmp_path_factory, bundle_path):
    home = tmp_path_factory.mktemp("closed")
    (home / "keys").write_text(f"alice {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    (home / "key").write_text(KEY + "\n")
    with running_service(home, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=home / "keys") as running:
        yield running


@pytest.fixture(scope="module")
def images():
    return np.load(ROOT / "examples" / "cutouts.npz")["images"]


def test_a_key_opens_the_service_to_the_client(closed, images, monkeypatch):
    with PhotozClient(closed.url, api_key=KEY) as client:
        first = client.predict(images)
    monkeypatch.setenv("PHOTOZ_API_KEY", KEY)
    with PhotozClient(closed.url) as client:
        second = client.predict(images)
    assert len(first.z_mean) == len(images)
    np.testing.assert_array_equal(first.z_mean, second.z_mean)


async def ask_with_a_wrong_key(url, images):
    async with AsyncPhotozClient(url, api_key="wrong") as client:
        await client.predict(images)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_it_the_client_is_told_so_at_once(closed, images, key, monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEY", raising=False)
    begin = time.monotonic()
    with pytest.raises(NotAuthorised) as refused, PhotozClient(closed.url, api_key=key) as client:
        client.predict(images)
    assert time.monotonic() - begin < 3  # it does not try again
    assert "key" in str(refused.value)
    assert "wrong" not in repr(refused.value).replace("it is wrong", "").replace("wrong key", "")


def test_nor_to_the_client_that_does_not_block(closed, images):
    with pytest.raises(NotAuthorised):
        asyncio.run(ask_with_a_wrong_key(closed.url, images))


def photoz(closed, *arguments):
    program = ["-c", "from photoz_client.cli import main; main()", "predict", "examples/cutouts.npz"]
    command = [sys.executable, *program, "--url", closed.url, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_key_opens_the_service_to_the_command(closed, monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEY", raising=False)
    refused = photoz(closed)
    assert refused.returncode
    assert "key" in refused.stderr
    assert "Traceback" not in refused.stderr
    opened = photoz(closed, "--api-key-file", str(closed.log.with_name("key")))
    assert opened.returncode == 0, opened.stderr
    assert KEY not in refused.stderr + opened.stderr + opened.stdout + closed.log.read_text()
