"""The tour of CONTRIBUTING.md is the way of a file through the service, and stays short."""

import subprocess
import sys

from tests.running import ROOT, serve_environment
from tests.service.tour import documented, read_table


def test_tour_is_what_a_request_calls(tmp_path):
    # In a process of its own: the application takes over its signals, its log and its garbage collector.
    command = [sys.executable, "-m", "tests.service.tour"]
    environment = serve_environment(tmp_path)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    steps, rows = set(read_table(done.stdout)), documented().splitlines()[2:]
    assert steps == set(read_table(documented())), "update it by `python -m tests.service.tour --write`"
    assert len(rows) <= 60
    assert len(steps) <= 125
    assert len({file for file, _ in steps}) <= 24
    of_service = [file for file, _ in steps if file.startswith("service/")]
    assert len(of_service) <= 45
    assert len(set(of_service)) <= 12
