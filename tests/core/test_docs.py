"""Documents agree with the shipped card and build without other hosts; the audit of the requirements."""

import re
import runpy
import subprocess
import sys

import pytest

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
    for words in ("not yet shown on real pixels", "must not be compared", "## Limits", "## Licence"):
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
    assert "docs/index.html" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


FINE = {"name": "click", "version": "8.5.1", "vulns": []}
UNKNOWN = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (2.11.2)"}
KNOWN = {"id": "PYSEC-2021-66", "aliases": ["CVE-2020-28493"], "fix_versions": ["2.11.3"], "description": "slow"}
VULNERABLE = {"name": "jinja2", "version": "2.11.2", "vulns": [KNOWN]}


def test_audit_counts_only_known_packages_as_good(tmp_path, capsys):
    audit = runpy.run_path(str(ROOT / "requirements" / "audit.py"))
    for packages, status, parts in (
        ([FINE], 0, ["1 of 1 packages checked, 0 findings"]),
        ([FINE, UNKNOWN], 2, ["1 of 2 packages checked, 0 findings", "1 packages NOT CHECKED"]),
        ([VULNERABLE, FINE], 1, ["jinja2 2.11.2: PYSEC-2021-66, CVE-2020-28493; fixed in 2.11.3", "1 findings"]),
        ([VULNERABLE, UNKNOWN], 1, ["fixed in 2.11.3", "1 of 2 packages checked, 1 findings"]),
        ([], 2, ["0 of 0 packages checked"]),
    ):
        lines, exit_status = audit["summarise"](packages)
        assert (exit_status, [part for part in parts if part not in "\n".join(lines)]) == (status, [])
    assert audit["audit"](str(tmp_path / "none.txt")) == 2
    assert "NOT CHECKED" in capsys.readouterr().out
