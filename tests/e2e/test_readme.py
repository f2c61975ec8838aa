"""The commands and the Python of README.md run unchanged, except for the address; its scores are those of the card."""

import re
import runpy
import shlex
import shutil
import subprocess

import pytest

from photoz_client.cli import main
from tests.running import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:3000"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(program):
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith(program)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the files that the commands use."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.e2e
def test_curl_commands_return_redshifts(service_url):
    found = commands("curl")
    assert len(found) >= 2
    for line in found:
        command = [*shlex.split(line.replace(ADDRESS, service_url)), "--fail", "--silent", "--show-error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert "z_mean" in done.stdout


@pytest.mark.e2e
def test_python_prints_a_line_for_each_cutout(service_url, capsys):
    (block,) = blocks("python")
    exec(block.replace(ADDRESS, service_url), {})
    assert len(re.findall(r"z = 0\.\d{3}, 68 % in", capsys.readouterr().out)) == 8


@pytest.mark.e2e
def test_photoz_commands_succeed(service_url, folder, monkeypatch):
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    found = commands("photoz ")
    assert len(found) >= 2
    for line in found:
        with pytest.raises(SystemExit) as done:
            main(shlex.split(line)[1:])
        assert not done.value.code, line
    assert {"redshifts.csv", "report.html"} <= {path.name for path in folder.iterdir()}


def test_scores_are_those_of_the_card(card):
    with_scores = runpy.run_path(str(ROOT / "docs" / "make.py"))["with_scores"]
    assert with_scores(README, card) == README


def test_linked_files_exist():
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert local
    assert not [link for link in local if not (ROOT / link).exists()]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {line.split()[1] for line in commands("make ")} | {"serve"} <= targets
