"""The tour of CONTRIBUTING.md is the way of a file through the service, and stays short."""

import subprocess
import sys

from tests.running import ROOT, serve_environment
from tests.service.tour import documented, read_table


def test_tour_is_what_a_request_calls(tmp_path):
    # In a process of its own: the application takes over its signals, its log and its garbage collector.
    command, environment = [sys.executable, "-m", "tests.service.tour"], serve_environment(tmp_path)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    steps = read_table(done.stdout)
    assert steps == read_table(documented()), "update it by `python -m tests.service.tour --write`"
    assert len(documented().splitlines()) <= 62
    assert len(steps) <= 125
