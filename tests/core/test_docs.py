"""Documents agree with the shipped card and build without other hosts."""

import re
import runpy
import subprocess
import sys

import pytest

from photoz import __version__
from tests.running import ROOT

MODEL_CARD = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")

# What a browser loads by itself: scripts, styles, fonts, images. Links to other sites are no concern.
HOST = r"[\"']?(?:https?:)?//"
LOADED = re.compile(rf"<(?:script|link|img|iframe)\b[^>]*(?:src|href)={HOST}|url\({HOST}|@import\s+{HOST}")


def test_model_card_and_scores_of_the_readme_are_up_to_date_and_links_exist(card):
    make = runpy.run_path(str(ROOT / "docs" / "make.py"))
    assert make["model_card"](card) == MODEL_CARD
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("± ") >= 12
    assert make["with_scores"](readme, card) == readme
    training = card.training.model_copy(update={"data": "SDSS frames"})
    text = make["model_card"](card.model_copy(update={"training": training, "caveats": (), "test": None}))
    assert [words in text for words in ("endered", "It was not tested.")] == [False, True]
    for words in ("not on real images of galaxies", "must not be compared", "## Limits", "## Licence"):
        assert words in MODEL_CARD
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", MODEL_CARD) if "://" not in link]
    assert local
    assert not [link for link in local if not (ROOT / "docs" / link).exists()]


@pytest.mark.acceptance
def test_site_builds_and_needs_no_other_host(tmp_path):
    for package in ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme"):
        name = package.replace("_", "-")
        pytest.importorskip(package, reason=f"needs {name}: pip install {name}")
    options = ["-c", "docs", "-d", tmp_path / "doctrees", "--fail-on-warning", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, ".", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 30
    assert [path.name for path in files if LOADED.search(path.read_text(encoding="utf-8"))] == []
    assert "POST /predict_file" in (tmp_path / "site/docs/endpoints.html").read_text(encoding="utf-8")
    home = (tmp_path / "site/docs/index.html").read_text(encoding="utf-8")
    for part in ("_static/logo.svg", 'rel="icon"', '../CHANGELOG.html" title', f"version {__version__}"):
        assert part in home
    client = (tmp_path / "site/docs/api/client.html").read_text(encoding="utf-8")
    pages = [f"generated/photoz_client.{name}.html" for name in ("PhotozClient", "AsyncPhotozClient")]
    assert 0 < client.index(pages[0]) < client.index(pages[1])  # blocking first, a page for each class
    assert "docs/index.html" in (tmp_path / "site/index.html").read_text(encoding="utf-8")
