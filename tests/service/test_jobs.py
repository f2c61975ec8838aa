"""Jobs in a child process: one at a time, so many of a client, and killed when they take too long."""

import asyncio
import os
import time

import psutil
import pytest
from pebble import ProcessExpired

from photoz.errors import InvalidInput
from service.errors import RequestError
from service.jobs import JobQueue


def process_id():
    return os.getpid()


def work(seconds):
    """Return when it began and ended, and in which process."""
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic(), os.getpid()


def refuse():
    raise InvalidInput("expected something else")


def make_queue(**options):
    return JobQueue("jobs run or wait", 2, 1, **options)


def test_result_and_error_of_a_job_are_passed_on():
    async def run():
        queue = make_queue(max_tasks=10)
        first = await queue.run("alice", 60.0, process_id)
        with pytest.raises(InvalidInput, match="expected something else"):
            await queue.run("alice", 60.0, refuse)
        assert await queue.run("alice", 60.0, process_id) == first != os.getpid()
        assert psutil.Process(first).nice() > psutil.Process().nice()

    asyncio.run(run())


def test_child_that_dies_between_jobs_is_replaced():
    async def run():
        queue = make_queue(max_tasks=10)
        first = psutil.Process(await queue.run("alice", 60.0, process_id))
        first.kill()
        while queue._pool.active:  # until the pool has noticed
            await asyncio.sleep(0.01)
        assert await queue.run("alice", 60.0, process_id) != first.pid

    asyncio.run(run())


def test_jobs_run_one_at_a_time_and_places_are_limited():
    async def run():
        queue = make_queue()
        calls = [queue.run(client, 60.0, work, 0.3) for client in ("alice", "alice", "bob", "carol")]
        alice, again, bob, carol = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(again, RequestError)
        assert again.status == 429
        assert str(again) == "1 of your jobs run or wait already; try again later"
        assert str(carol) == "2 jobs run or wait already; try again later"
        assert alice[1] <= bob[0]
        assert alice[2] != bob[2]  # each has a child of its own
        await queue.run("alice", 60.0, process_id)

    asyncio.run(run())


def test_job_that_takes_too_long_is_killed():
    async def run():
        queue = make_queue(max_tasks=10)
        child = psutil.Process(await queue.run("alice", 60.0, process_id))
        with pytest.raises(RequestError, match=r"took longer than 0\.1 s") as refused:
            await queue.run("alice", 0.1, work, 60.0)
        assert refused.value.status == 504
        assert not child.is_running()
        await queue.run("alice", 60.0, process_id)

    asyncio.run(run())


def test_job_that_is_cancelled_is_killed():
    async def run():
        queue = make_queue(max_tasks=10)
        child = psutil.Process(await queue.run("alice", 60.0, process_id))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await queue.run("alice", 60.0, work, 60.0)
        await queue.run("alice", 60.0, process_id)
        assert not child.is_running()

    asyncio.run(run())


def test_child_that_dies_fails_its_own_job():
    async def run():
        queue = make_queue(max_tasks=10)
        with pytest.raises(ProcessExpired) as expired:
            await queue.run("alice", 60.0, os._exit, 3)
        assert expired.value.exitcode == 3
        await queue.run("alice", 60.0, process_id)

    asyncio.run(run())
