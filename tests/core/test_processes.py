"""Child processes: the death of a child is noticed."""

import os
import threading
import time

import pebble
import pytest

from photoz.processes import process_pool


def test_a_child_that_dies_before_its_start_is_noticed_fails_its_job(monkeypatch):
    armed, waiting = threading.Event(), threading.Event()
    pool = process_pool(2)
    manager, process_next_message = pool._pool_manager, pool._pool_manager.process_next_message

    def read_after_a_death(timeout):
        if armed.is_set() and not waiting.is_set():
            children = list(manager.worker_manager.workers)
            waiting.set()
            while all(child in manager.worker_manager.workers for child in children):
                time.sleep(0.01)
        process_next_message(timeout)

    monkeypatch.setattr(manager, "process_next_message", read_after_a_death)
    try:
        other = pool.schedule(time.sleep, (300,))
        while not other.running():
            time.sleep(0.01)
        armed.set()
        waiting.wait()
        with pytest.raises(pebble.ProcessExpired):
            pool.schedule(os._exit, (1,)).result(timeout=60)
        assert not other.done()
    finally:
        pool.stop()
        pool.join()
