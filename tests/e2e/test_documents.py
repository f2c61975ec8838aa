"""The code in the docs runs as it is written, except for the address of the service.

All blocks of a page run in order, in one folder with the files that the docs name. A block that cannot run here begins
with the line `# Not tested: REASON`, and is listed with the skipped tests. `make` and `training train` would take
minutes: only their target and arguments are checked. `pip` does not run.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.documents import PAGES, read_blocks, write_files
from tests.running import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ADDRESS = re.compile(r"127\.0\.0\.1:300[01]")
BLOCKS = {str(path.relative_to(ROOT)): read_blocks(path) for path in PAGES if "tutorials" not in path.parts}
RUN = {page: run for page, blocks in BLOCKS.items() if (run := [block for block in blocks if not block.skip_reason])}
NOT_RUN = [block for blocks in BLOCKS.values() for block in blocks if block.skip_reason]

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


@pytest.fixture
def environment(tmp_path, service_url):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    packages = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])
    ours = {"ROOT": str(ROOT), "PARSE": PARSE, "KEY": "a-key", "PATH": path, "PYTHONPATH": packages}
    return {**os.environ, **ours, "PHOTOZ_URL": service_url, "BENTOML_HOME": str(tmp_path / "bentoml")}


def run_commands(block, text, environment):
    command = ["bash", "-euo", "pipefail", "-c", PRELUDE + text]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    output, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{block}\n{output[-1000:]}\n{errors[-3000:]}"
    document = (ROOT / block.page).read_text(encoding="utf-8")
    for status in set(re.findall(r"<status (\d+)>", errors)) - {"200"}:
        assert f"answers {status} with `{output.strip()}`" in document, f"{block}: {status} {output}"


@pytest.mark.parametrize("page", sorted(RUN))
def test_code_runs(page, environment, service_url, bundle_path, tmp_path, monkeypatch):
    write_files(tmp_path, bundle_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in RUN[page]:
        text = ADDRESS.sub(urlsplit(service_url).netloc, block.text)
        if block.language == "sh":
            run_commands(block, text, environment)
        else:
            exec(compile(text, str(block), "exec"), names)


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_other_code_is_listed(block):
    subprocess.run(["bash", "-n", "-c", block.text], check=True)
    pytest.skip(block.skip_reason)


def test_extras_exist():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    named = {name for path in PAGES for name in re.findall(r"(?:photoz|\.)\[([a-z,]+)\]", path.read_text("utf-8"))}
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
