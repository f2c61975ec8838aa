"""How rows are divided into parts, which processes here or on a Ray cluster score, whichever of them are killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import psutil
import pytest

from photoz.errors import InvalidDataset
from photoz_survey.inputs import Chunk, Segment, chunks, find_inputs
from photoz_survey.manifest import InputFile, ScoreOptions
from photoz_survey.processes import WorkerDied, run_in_processes
from photoz_survey.run import Run
from photoz_survey.workers import ONE_THREAD, ClusterFailed, score_on_cluster
from tests.survey.conftest import ENVIRONMENT, files, program


def test_rows_are_divided_and_small_files_share_a_part():
    inputs = [InputFile(path=str(n), size=1, modified="", n_rows=n) for n in (4, 3, 4, 9, 0, 3, 2, None, 8, 1)]
    inputs[6] = inputs[6].model_copy(update={"error": "broken"})
    expected = [[(0, 0, 4), (1, 0, 3)], [(2, 0, 4)], [(3, 0, 8)], [(3, 8, 9)], [(4, 0, 0), (5, 0, 3), (6, 0, 0)]]
    expected += [[(7,)], [(8, 0, 8)], [(9, 0, 1)]]
    assert chunks(inputs, 8) == [
        Chunk(number, tuple(Segment(*rows) for rows in segments)) for number, segments in enumerate(expected)
    ]
    assert [chunk.n_rows for chunk in chunks(inputs, 8)] == [7, 4, 8, 1, 3, 0, 8, 1]


def test_files_of_folders_and_patterns_are_found_in_order(write_cutouts, tmp_path):
    for folder in ("b", "a", "a/c"):
        (tmp_path / folder).mkdir()
    for name in ("b/1.h5", "a/2.h5", "a/1.h5", "a/.hidden.h5", "a/c/3.h5"):
        write_cutouts(name, 2)
    (tmp_path / "a/notes.txt").touch()
    for path, expected in [
        ("a", ["a/1.h5", "a/2.h5"]),
        ("[ab]/*.h5", ["a/.hidden.h5", "a/1.h5", "a/2.h5", "b/1.h5"]),
        ("**/[13].h5", ["a/1.h5", "a/c/3.h5", "b/1.h5"]),
        ("a/c/3.h5", ["a/c/3.h5"]),
    ]:
        found = find_inputs([str(tmp_path / path)])
        assert [file.path for file in found] == [str(tmp_path / name) for name in expected]
    info = (tmp_path / "a/c/3.h5").stat()
    assert found == [
        InputFile(path=found[0].path, size=info.st_size, modified=str(info.st_mtime), n_rows=2, integer_ids=True)
    ]
    for paths, message in [(["a", "a/1.h5"], "a/1.h5 is given more than once"), (["c*"], "no file of cutouts at ")]:
        with pytest.raises(InvalidDataset, match=re.escape(message)):
            find_inputs([str(tmp_path / path) for path in paths])


def end_at_some(item, folder, times):
    """Record an item; each third item kills its process the first few times."""
    seen = len(list(folder.glob(f"{item}-*")))
    (folder / f"{item}-{seen}").touch()
    if item % 3 == 0 and seen < times:
        os.kill(os.getpid(), signal.SIGKILL)


def test_all_items_are_done_although_processes_are_killed(tmp_path):
    function = partial(end_at_some, folder=tmp_path, times=2)  # twice in a row
    assert list(run_in_processes(function, range(3), 1)) == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0", "0-1", "0-2", "1-0", "2-0"]


def test_a_process_that_always_dies_and_an_error_of_the_function_are_raised(tmp_path):
    with pytest.raises(WorkerDied, match="processes were killed again and again, perhaps for lack of memory"):
        list(run_in_processes(partial(end_at_some, folder=tmp_path, times=99), [3], 2))
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ZeroDivisionError):
        list(run_in_processes(partial(divmod, 1), [0], 1))


@pytest.mark.parametrize("call", ["time.sleep, [600, 600]", "max, [itertools.count(), itertools.count()]"])
def test_processes_end_with_a_run_that_is_killed(call, tmp_path):
    """Also where they hold the interpreter's lock, as libraries in C do."""
    code = f"import itertools, time; from photoz_survey.processes import run_in_processes as run; [*run({call}, 2)]"
    with subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT) as process:
        parent = psutil.Process(process.pid)
        while len(children := parent.children()) < 3:
            assert process.poll() is None
        time.sleep(1.0)  # so that they have begun their items, most likely
        process.kill()
    ended, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert alive == []


@pytest.fixture
def ray(monkeypatch):
    """A stand-in for Ray, whose only actor is in this process."""

    def map_(actor, fn_constructor_args, compute, num_cpus):
        items = [{"item": number} for number in ray.data.from_items.call_args.args[0]]
        return SimpleNamespace(iter_rows=lambda: map(actor(*fn_constructor_args), items))

    ray = MagicMock(get=lambda value: value, put=lambda value: value)
    ray.exceptions.RayError, ray.data.from_items.return_value.map = RuntimeError, MagicMock(side_effect=map_)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    return ray


def test_actors_write_the_parts_of_one_machine(ray, bundle, write_cutouts, score, tmp_path):
    path = write_cutouts("a.h5", 30)
    score(path, output=tmp_path / "whole", rows_per_part=8)
    run = Run.begin([str(path)], bundle.path, ScoreOptions(rows_per_part=8), str(tmp_path / "out"), resume=False)
    arguments = (run.plan, bundle.path, run.folder)
    assert list(score_on_cluster(*arguments, [], "auto")) == []
    assert list(score_on_cluster(*arguments, run.missing(), "auto", 3)) == list(run.chunks)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert (ray.init.call_args.args, ray.init.call_args.kwargs["runtime_env"]) == (("auto",), {"env_vars": ONE_THREAD})
    assert ray.data.from_items.call_args.kwargs == {"override_num_blocks": 4}
    assert ray.data.from_items.return_value.map.call_args.kwargs["num_cpus"] == 1
    ray.data.ActorPoolStrategy.assert_called_once_with(min_size=1, max_size=3)
    ray.shutdown.assert_called_once_with()
    write_cutouts("a.h5", 30, seed=1)
    with pytest.raises(ClusterFailed, match=r"a\.h5 has changed since the run was begun"):
        list(score_on_cluster(*arguments, run.chunks, "auto"))
    assert ray.shutdown.call_count == 2


def test_without_a_cluster_the_command_says_so(photoz, ray, bundle, write_cutouts, tmp_path, monkeypatch):
    ray.init.side_effect = ConnectionError("gone\nfor ever")
    command = ("score", write_cutouts("a.h5", 3), "--bundle", bundle.path, "--ray", "a:1", "-o")
    gone = "Error: no Ray cluster at a:1: gone; for a cluster with a token, set RAY_AUTH_MODE=token here too"
    assert photoz(*command, tmp_path / "a")[2].splitlines()[-1] == gone
    monkeypatch.setitem(sys.modules, "ray", None)
    needed = "Error: a cluster needs ray: install it with pip install 'photoz[ray]'"
    assert photoz(*command, tmp_path / "b")[2].splitlines()[-1] == needed


@pytest.mark.acceptance
def test_a_real_cluster(photoz, bundle, write_cutouts, tmp_path, score, monkeypatch):
    """As documented, where loopback is the only interface: Ray's processes listen on all."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'photoz[ray]'")
    path, out = write_cutouts("a.h5", 60), tmp_path / "out"
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("ip") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    start = "ray start --head --node-ip-address=127.0.0.1 --num-cpus=1 --disable-usage-stats --include-dashboard=false"
    script = f'ip link set lo up && {start} && "$@"'
    command = program(
        "score", path, "--bundle", bundle.path, "-o", out, "--rows-per-part", 5, "--ray", "127.0.0.1:6379"
    )
    with tempfile.TemporaryDirectory() as folder:  # a short path, for sockets
        monkeypatch.setenv("RAY_TMPDIR", folder)
        none = photoz("score", path, "--bundle", bundle.path, "-o", tmp_path / "none", "--ray", "auto")
        assert "Error: no Ray cluster at auto: " in none[2]
        places = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        environment = ENVIRONMENT | {"PATH": places, "RAY_TMPDIR": folder, "HOME": folder}  # without a token
        options = {"env": environment, "capture_output": True, "text": True}
        run = subprocess.run([*alone, "sh", "-c", script, "sh", *command], **options)
    assert run.returncode == 0, run.stdout + run.stderr
    score(path, output=tmp_path / "whole", rows_per_part=5)
    assert files(out) == files(tmp_path / "whole")
