"""What README.md shows works as it stands, but for the address; and its figures are those of the shipped model."""

import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from photoz_client.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:3000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    lines = (line for block in blocks("sh") for line in block.splitlines())
    return [line for line in lines if line.startswith(program)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the commands name."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.e2e
def test_the_curl_commands_answer_with_a_redshift(service_url: str, checkout: Path) -> None:
    found = commands("curl")
    assert len(found) >= 2
    for line in found:
        command = [*shlex.split(line.replace(ADDRESS, service_url)), "--fail", "--silent", "--show-error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert "z_mean" in done.stdout


@pytest.mark.e2e
def test_the_python_prints_a_line_for_each_cutout(
    service_url: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = blocks("python")
    exec(block.replace(ADDRESS, service_url), {})
    assert len(re.findall(r"z = 0\.\d{3}, 68 % in", capsys.readouterr().out)) == 8


@pytest.mark.e2e
def test_the_photoz_commands_run(service_url: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    found = commands("photoz ")
    assert len(found) >= 2
    for line in found:
        with pytest.raises(SystemExit) as done:
            main(shlex.split(line)[1:])
        assert not done.value.code, line
    assert {"redshifts.csv", "report.html"} <= {path.name for path in checkout.iterdir()}


def test_the_scores_are_those_of_the_shipped_models_card(card) -> None:
    with_scores = runpy.run_path(str(ROOT / "docs" / "make.py"))["with_scores"]
    assert with_scores(README, card) == README


def test_every_file_that_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if "://" not in link]
    assert local
    assert not [link for link in local if not (ROOT / link).exists()]


def test_every_make_target_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {line.split()[1] for line in commands("make ")} | {"serve"}
    assert named <= targets
