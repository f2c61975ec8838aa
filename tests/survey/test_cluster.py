"""`photoz score --ray`: the same bytes as on one machine, also when a node is killed."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.running import ROOT
from tests.survey.test_score import ENVIRONMENT, files

pytest.importorskip("ray", reason="ray is not installed")

ALONE = ["unshare", "--net"]  # without it Ray listens on all interfaces


@pytest.mark.slow
def test_a_node_is_killed(bundle, write_cutouts, tmp_path, score):
    if not shutil.which("ip") or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    path, out = write_cutouts("a.h5", 600), tmp_path / "out"
    program = [*ALONE, sys.executable, "-m", "tests.survey.ray_cluster", out / "done"]
    arguments = [path, "--bundle", bundle.path, "-o", out, "--rows-per-part", "5"]
    run = subprocess.run([*program, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["status"] == 0, found["message"]
    before, after = found["n_parts"]
    assert 4 <= before <= after < 120
    score(path, output=tmp_path / "whole", rows_per_part=5)
    assert files(out) == files(tmp_path / "whole")


def test_no_cluster(photoz, bundle, write_cutouts, tmp_path):
    arguments = ("--bundle", str(bundle.path), "-o", str(tmp_path / "out"), "--ray", "auto")
    status, _, err = photoz("score", str(write_cutouts("a.h5", 3)), *arguments)
    assert status == 1
    assert "Error: no Ray cluster at auto: " in err
