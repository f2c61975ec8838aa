"""The Python and the commands in docs/client.md run as they are written, apart from the URL."""

import re
import shlex

import pytest

import photoz_client
from photoz.io.writer import FORMATS
from photoz_client import PhotozClientError
from tests.running import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def working_folder(folder, monkeypatch):
    (folder / "photoz.key").write_text("a-key\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.e2e
def test_python_examples_run(working_folder, service_url):
    names = {}
    for block in _blocks("python"):
        exec(block.replace("http://127.0.0.1:3000", service_url), names)
    assert names["report"].lower().startswith("<!doctype html>")
    assert len(names["table"]) == 6


@pytest.mark.e2e
def test_commands_run(working_folder, photoz, service_url, monkeypatch):
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    lines = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("photoz ")]
    assert len(lines) >= 7
    for line in lines:
        assert photoz(*shlex.split(line)[1:])[0] == 0, line
    made = {path.name for path in working_folder.iterdir()}
    assert made >= {"redshifts.npz", "redshifts.csv", "report.html", "pit.png"}


def test_every_error_is_documented():
    kinds = (getattr(photoz_client, name) for name in photoz_client.__all__)
    errors = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, PhotozClientError)}
    undocumented = {kind.__name__ for kind in errors if f"`{kind.__name__}`" not in GUIDE}
    assert undocumented == {"PhotozClientError", "InvalidUrl"}


def test_every_file_format_is_documented():
    assert [suffix for suffix in FORMATS if f"`{suffix}`" not in GUIDE] == []
