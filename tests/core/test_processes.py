"""Child processes: the death of a child is noticed."""

import os
import signal
import time

import pebble
import pytest

from photoz.processes import process_pool


def end():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_child_that_dies_before_its_start_is_noticed_fails_its_job(monkeypatch):
    with process_pool(2) as pool:
        other = pool.schedule(time.sleep, (60,))
        while not other.running():
            time.sleep(0.01)
        process_next_message = pool._pool_manager.process_next_message

        def read_late(timeout):
            time.sleep(0.5)
            process_next_message(timeout)

        monkeypatch.setattr(pool._pool_manager, "process_next_message", read_late)
        with pytest.raises(pebble.ProcessExpired):
            pool.schedule(end).result(timeout=30)
        assert not other.done()
        other.cancel()
