"""Report known vulnerabilities of locked requirements, and count the packages that could not be checked.

pip-audit reports "no known vulnerabilities" for a package that the advisory service does not know: with a mirror that
has no advisories, that is every package. So unchecked packages are counted here and have their own exit status.

    python requirements/audit.py requirements/service.txt ...

Exit status: 0 if all packages were checked and none has a known vulnerability, 1 if one has, 2 if some were unchecked.
"""

import json
import subprocess
import sys
from typing import Any

NOTHING_KNOWN, VULNERABLE, NOT_CHECKED = 0, 1, 2


def run_pip_audit(path: str) -> list[dict[str, Any]]:
    """Return pip-audit's report on the requirements in a file; raises RuntimeError with its error if it has none."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", path, "--require-hashes", "--disable-pip",
        "--format=json", "--progress-spinner=off",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return packages
    except (ValueError, KeyError) as error:
        raise RuntimeError((done.stderr.strip() or "pip-audit printed nothing").splitlines()[-1]) from error


def summarise(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Return the lines to print for a report, and the exit status."""
    lines, unchecked = [], [package for package in packages if "skip_reason" in package]
    for package in packages:
        for advisory in package.get("vulns", []):
            names = ", ".join([advisory["id"], *advisory.get("aliases", [])])
            fixed = ", ".join(advisory["fix_versions"]) or "no version"
            lines.append(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    status = VULNERABLE if lines else NOT_CHECKED if unchecked or not packages else NOTHING_KNOWN
    lines.append(f"{len(packages) - len(unchecked)} of {len(packages)} packages checked, {len(lines)} findings")
    if unchecked:
        lines.append(f"{len(unchecked)} packages NOT CHECKED; the first: {unchecked[0]['skip_reason']}")
    return lines, status


def audit(path: str) -> int:
    """Print the known vulnerabilities of the requirements in a file, and return the exit status."""
    try:
        lines, status = summarise(run_pip_audit(path))
    except RuntimeError as error:
        lines, status = [f"NOT CHECKED, no answer from the advisory service: {error}"], NOT_CHECKED
    for line in lines:
        print(f"{path}: {line}")
    return status


if __name__ == "__main__":
    statuses = {audit(path) for path in sys.argv[1:]}
    sys.exit(VULNERABLE if VULNERABLE in statuses else max(statuses, default=NOT_CHECKED))
