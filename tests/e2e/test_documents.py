"""The code in the docs runs as it is written, except for the address of the service; tutorials run as notebooks.

All blocks of a document run in order, in one folder with the files that the docs name. `<!-- not run: REASON -->`
stands before a block that cannot run here. `make` and `training train` would take minutes: only their target and
arguments are checked. `pip` does not run. A `text` block right below is the output, in which numbers may differ by
0.02, as they do between processors; a last line `...` stands for the rest.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.e2e.documents import PAGES, read_blocks, write_files
from tests.running import ROOT, free_port

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCKS = {str(path.relative_to(ROOT)): read_blocks(path) for path in PAGES if path not in TUTORIALS}
NOT_RUN = [block for blocks in BLOCKS.values() for block in blocks if block.not_run]
RUN = {name: run for name, blocks in BLOCKS.items() if (run := [block for block in blocks if not block.not_run])}

PRELUDE = """
make() { command make --dry-run --directory "$ROOT" "$@" >/dev/null; }
pip() { :; }
curl() { command curl --silent --show-error --write-out '%{stderr}<status %{http_code}>' "$@"; }
python() {
    case "$*" in
    "-m training train"*) shift 3; command python -c "$PARSE" "$@" ;;
    "-m training export"*) command python "$@" --only-f32 ;;
    *) command python "$@" ;;
    esac
}
"""
PARSE = "import sys; from training.cli import train; train.make_context('train', sys.argv[1:])"


@pytest.fixture(scope="module")
def files(tmp_path_factory, bundle_path):
    """The files that the docs use, of which each document gets a copy."""
    write_files(folder := tmp_path_factory.mktemp("files"), bundle_path)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, service_url):
    """The current folder, in which commands are those of this environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]))
    variables = {"ROOT": str(ROOT), "PARSE": PARSE, "KEY": "a-key", "PHOTOZ_URL": service_url}
    bentoml = {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    for name, value in (variables | bentoml).items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.acceptance
@pytest.mark.parametrize("document", sorted(RUN))
def test_code_runs(document, folder, service_url, files):
    shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)
    names, answers = {}, (ROOT / document).read_text(encoding="utf-8")
    for block in RUN[document]:
        text = re.sub(r"127\.0\.0\.1:300[01]", urlsplit(service_url).netloc, block.text)
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(text, block.place, "exec"), names)
            compare_output(block, printed.getvalue())
            continue
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", PRELUDE + text], capture_output=True)
        output, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{block.place}\n{output[-1000:]}\n{errors[-3000:]}"
        for status in set(re.findall(r"<status (\d+)>", errors)) - {"200"}:
            assert f"answers {status} with `{output.strip()}`" in answers, f"{block.place}: {status} {output}"
        compare_output(block, output or errors)


def compare_output(block, output):
    if block.output is None:
        return
    shown, found = block.output.splitlines(), output.splitlines()
    if shown[-1] == "...":
        shown, found = shown[:-1], found[: len(shown) - 1]
    number = re.compile(r"\d+(?:\.\d*)?")
    assert [number.sub("0", line).split() for line in found] == [number.sub("0", line).split() for line in shown]
    np.testing.assert_allclose(*([float(n) for n in number.findall("\n".join(x))] for x in (found, shown)), atol=0.02)


@pytest.mark.acceptance
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of nbclient and what it needs
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, folder, service_url):
    jupytext, nbclient, _ = (
        pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
        for package in ("jupytext", "nbclient", "ipykernel")
    )
    shutil.copytree(ROOT / "examples", folder / "examples")
    (here := folder / "docs" / "tutorials").mkdir(parents=True)
    text = path.read_text(encoding="utf-8").replace("http://127.0.0.1:3000", service_url)
    notebook = jupytext.reads(text.replace("3001", str(free_port())), fmt="md")
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(here)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for block, cell in zip(read_blocks(path), cells, strict=True):
        parts = [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
        compare_output(block, "".join(part for part in parts if part and not part.startswith("<IPython")))
    shown = set(re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.MULTILINE))
    assert {figure.name for figure in here.iterdir()} == shown != set()


def test_blocks_that_do_not_run_have_no_wrong_syntax():
    for block in NOT_RUN:
        if block.language == "python":
            compile(block.text, block.place, "exec")
        else:
            subprocess.run(["bash", "-n", "-c", block.text], check=True)


def test_extras_exist():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    named = {name for path in PAGES for name in re.findall(r"(?:photoz|\.)\[([a-z,]+)\]", path.read_text("utf-8"))}
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
