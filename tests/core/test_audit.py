"""The audit of the requirements does not take silence for a good answer."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "requirements" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    return SimpleNamespace(**runpy.run_path(str(FILE)))


FINE = {"name": "click", "version": "8.5.1", "vulns": []}
UNKNOWN = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (2.11.2)"}
KNOWN = {"id": "PYSEC-2021-66", "aliases": ["CVE-2020-28493"], "fix_versions": ["2.11.3"], "description": "slow"}
VULNERABLE = {"name": "jinja2", "version": "2.11.2", "vulns": [KNOWN]}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([FINE], 0, ["1 of 1 packages checked, 0 findings"]),
        ([FINE, UNKNOWN], 2, ["1 of 2 packages checked, 0 findings", "1 packages NOT CHECKED"]),
        ([VULNERABLE, FINE], 1, ["jinja2 2.11.2: PYSEC-2021-66, CVE-2020-28493; fixed in 2.11.3", "1 findings"]),
        ([VULNERABLE, UNKNOWN], 1, ["fixed in 2.11.3", "1 of 2 packages checked, 1 findings"]),
        ([], 2, ["0 of 0 packages checked"]),
    ],
)
def test_audit_counts_only_known_packages_as_good(audit, packages, status, said):
    lines, exit_status = audit.summarise(packages)
    assert exit_status == status
    assert all(any(part in line for line in lines) for part in said)


def test_audit_without_report_fails(audit, tmp_path, capsys):
    assert audit.audit(str(tmp_path / "none.txt")) == 2
    assert "NOT CHECKED" in capsys.readouterr().out
