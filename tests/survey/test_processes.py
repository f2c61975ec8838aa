"""Items are done once, whichever processes are killed."""

import os
import signal
from functools import partial

import pytest

from photoz_survey.processes import WorkerDied, run_in_processes


def end_at_some(item, folder, times):
    """Note an item; the process of each third one ends so many times."""
    seen = len(list(folder.glob(f"{item}-*")))
    (folder / f"{item}-{seen}").touch()
    if item % 3 == 0 and seen < times:
        os.kill(os.getpid(), signal.SIGKILL)


def test_all_items_are_done_although_processes_are_killed(tmp_path):
    function = partial(end_at_some, folder=tmp_path, times=1)
    assert sorted(run_in_processes(function, range(4), 2)) == [0, 1, 2, 3]


def test_a_process_that_always_dies_is_an_error(tmp_path):
    with pytest.raises(WorkerDied, match="processes were killed again and again"):
        list(run_in_processes(partial(end_at_some, folder=tmp_path, times=99), [3], 2))
