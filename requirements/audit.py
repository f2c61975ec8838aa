"""Ask for the known vulnerabilities of locked requirements, and say plainly about which it was not possible to ask.

A package that the advisory service does not know is passed over by pip-audit with the words "no known vulnerabilities":
behind a mirror without the advisories that is every one. So they are counted here, and end in a status of their own.

    python requirements/audit.py requirements/service.txt ...

Status: 0 when all were asked about and nothing is known, 1 when something is known, 2 when some were not asked about.
"""

import json
import subprocess
import sys
from typing import Any

NOTHING_KNOWN, VULNERABLE, NOT_ASKED = 0, 1, 2


def report_on(path: str) -> list[dict[str, Any]]:
    """Return what pip-audit says of each requirement in a file that holds for this Python and platform.

    Raises
    ------
    RuntimeError
        If it says nothing; with its last words.
    """
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", path, "--require-hashes", "--disable-pip",
        "--format=json", "--progress-spinner=off",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return packages
    except (ValueError, KeyError) as error:
        raise RuntimeError((done.stderr.strip() or "it said nothing").splitlines()[-1]) from error


def told(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Return the lines that tell of a report, and the status."""
    lines, not_asked = [], [package for package in packages if "skip_reason" in package]
    for package in packages:
        for known in package.get("vulns", []):
            names = ", ".join([known["id"], *known.get("aliases", [])])
            fixed = ", ".join(known["fix_versions"]) or "no version"
            lines.append(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    status = VULNERABLE if lines else NOT_ASKED if not_asked or not packages else NOTHING_KNOWN
    lines.append(f"{len(packages) - len(not_asked)} of {len(packages)} packages asked about, {len(lines)} findings")
    if not_asked:
        lines.append(f"NOTHING is known about the other {len(not_asked)}; the first: {not_asked[0]['skip_reason']}")
    return lines, status


def audit(path: str) -> int:
    """Print what is known about the requirements in a file, and return the status."""
    try:
        lines, status = told(report_on(path))
    except RuntimeError as error:
        lines, status = [f"NOTHING is known, since the advisories could not be asked for: {error}"], NOT_ASKED
    for line in lines:
        print(f"{path}: {line}")
    return status


if __name__ == "__main__":
    statuses = {audit(path) for path in sys.argv[1:]}
    sys.exit(VULNERABLE if VULNERABLE in statuses else max(statuses, default=NOT_ASKED))
