"""The site of the documents builds without warnings, and loads nothing from other hosts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a browser loads by itself: scripts, styles, fonts, images. Links to other sites are no concern.
HOST = r"[\"']?(?:https?:)?//"
LOADED = re.compile(rf"<(?:script|link|img|iframe)\b[^>]*(?:src|href)={HOST}|url\({HOST}|@import\s+{HOST}")


@pytest.mark.slow
def test_site_builds_and_needs_no_other_host(tmp_path):
    for package in ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    options = ["-c", "docs", "-d", tmp_path / "doctrees", "--fail-on-warning", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, ".", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.stderr == ""
    assert done.returncode == 0
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 30
    assert [path.name for path in files if LOADED.search(path.read_text(encoding="utf-8"))] == []
    assert "POST /predict_file" in (tmp_path / "site/docs/endpoints.html").read_text(encoding="utf-8")
    assert "docs/index.html" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ('<script defer src="https://a.org/x.js">', True),
        ('<link href="//a.org/x.css" rel="stylesheet">', True),
        ("src: url(https://a.org/x.woff2)", True),
        ('<a href="https://a.org">', False),
        ('<script src="../_static/x.js">', False),
        ("background: url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org'\")", False),
    ],
)
def test_other_hosts_are_found(text, loads):
    assert bool(LOADED.search(text)) == loads
