"""The tutorials run from their first cell to their last."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.running import ROOT, free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of nbclient and what it needs
]

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the parts of the repository that the tutorials use; their commands are those of this environment."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "docs" / "tutorials").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python"))))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "true")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, folder, service_url, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    text = path.read_text(encoding="utf-8").replace("http://127.0.0.1:3000", service_url)
    notebook = jupytext.reads(text.replace("3001", str(free_port())), fmt="md")
    here = folder / "docs" / "tutorials"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(here)}}).execute()
    shown = set(re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.MULTILINE))
    assert shown
    assert {figure.name for figure in here.iterdir()} == shown
