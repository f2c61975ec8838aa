"""The Python and the commands in docs/client.md run as they are written, apart from the URL."""

import re
import shlex

import h5py
import numpy as np
import pytest

import photoz_client
from photoz_client import PhotozClient, PhotozClientError
from tests.running import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def cutout_files(service_url, tmp_path, monkeypatch):
    with PhotozClient(service_url) as client:
        image = client.model().image
    images = np.random.default_rng(3).normal(0.1, 0.05, (4, *image.shape)).astype(np.float32)
    columns = {"images": images, "ebv": np.full(4, 0.03), "z_spec": np.linspace(0.1, 0.3, 4)}
    np.save(tmp_path / "cutouts.npy", images)
    np.savez(tmp_path / "cutouts.npz", **columns)
    with h5py.File(tmp_path / "cutouts.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
        file["split"] = np.array(["train", "test", "test", "test"], dtype=object)
    (tmp_path / "photoz.key").write_text("a-key\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.e2e
def test_python_examples_run(cutout_files, service_url):
    names = {}
    for block in _blocks("python"):
        exec(block.replace("http://127.0.0.1:3000", service_url), names)
    assert names["report"].lower().startswith("<!doctype html>")
    assert len(names["table"]) == 4


@pytest.mark.e2e
def test_commands_run(cutout_files, photoz, service_url, monkeypatch):
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    lines = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("photoz ")]
    assert len(lines) >= 7
    for line in lines:
        assert photoz(*shlex.split(line)[1:])[0] == 0, line
    made = {path.name for path in cutout_files.iterdir()}
    assert made >= {"redshifts.npz", "redshifts.csv", "report.html", "pit.png"}


def test_every_error_is_documented():
    kinds = (getattr(photoz_client, name) for name in photoz_client.__all__)
    errors = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, PhotozClientError)}
    undocumented = {kind.__name__ for kind in errors if f"`{kind.__name__}`" not in GUIDE}
    assert undocumented == {"PhotozClientError", "InvalidUrl"}
