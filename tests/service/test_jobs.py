"""Jobs in child processes: results, turns of clients, limits, and children that die."""

import asyncio
import os
import re
import time

import psutil
import pytest
from pebble import ProcessExpired

from photoz.errors import InvalidInput
from service.errors import RequestError, error_response
from service.jobs import JobQueue
from tests.service.helpers import PATIENCE

LONG = 600.0  # seconds, which no job takes here


def work(seconds):
    """Return when it began and ended, and in which process."""
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic(), os.getpid()


def refuse():
    raise InvalidInput("expected something else")


def end(*job):
    os._exit(3)


def in_queue(test, max_tasks=10):
    """Run a test of a queue for two jobs, one of each client, and see that the queue still works afterwards."""

    async def run():
        queue = JobQueue("jobs run or wait", 2, 1, max_tasks=max_tasks)
        child = psutil.Process(await queue.run("alice", LONG, os.getpid))
        await test(queue, child)
        return child, await queue.run("alice", LONG, os.getpid)

    return asyncio.run(run())


def test_result_and_error_of_a_job_are_passed_on():
    async def check(queue, child):
        with pytest.raises(InvalidInput, match="expected something else"):
            await queue.run("alice", LONG, refuse)
        assert child.nice() == min(psutil.Process().nice() + 10, 19)

    child, again = in_queue(check)
    assert child.pid == again != os.getpid()


def test_jobs_run_one_at_a_time_and_places_are_limited():
    async def check(queue, child):
        calls = [queue.run(client, LONG, work, 0.1) for client in ("alice", "alice", "bob", "carol")]
        alice, again, bob, carol = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(again, RequestError)
        assert again.status == carol.status == 429
        assert str(again) == "1 of your jobs run or wait already; try again later"
        assert str(carol) == "2 jobs run or wait already; try again later"
        assert alice[1] <= bob[0]
        assert len({child.pid, alice[2], bob[2]}) == 3  # each has a child of its own

    in_queue(check, max_tasks=1)


def test_clients_take_turns_and_one_that_ended_the_child_waits():
    async def check():
        queue = JobQueue("jobs run or wait", 9, 6, max_tasks=0, penalty=LONG)
        calls = [queue.run(client, LONG, work, 0.05) for client in ("alice", "alice", "alice", "bob", "bob")]
        *alice, first, second = await asyncio.gather(*calls)
        assert alice[0] < first < alice[1] < second < alice[2]
        calls = [queue.run(client, LONG, job, *arguments) for client, job, *arguments in TURNS]
        ended, refused, answered = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(ended, ProcessExpired)
        assert len(answered) == 3
        assert re.fullmatch(r"what you sent before failed or took too long; try again in \d+ s", str(refused))
        response = error_response(refused)
        assert (response.status_code, int(response.headers["retry-after"])) == (429, refused.retry_after)
        assert LONG - PATIENCE < refused.retry_after <= LONG

    asyncio.run(check())


def test_client_that_has_to_wait_takes_no_place_and_no_turn():
    async def check():
        queue = JobQueue("jobs run or wait", 3, 2, penalty=LONG)
        calls = (("alice", 0.1, work, LONG), ("alice", LONG, work, 0.0), ("bob", LONG, work, 0.5))
        late, waiting, bob = [asyncio.create_task(queue.run(*call)) for call in calls]
        for refused in (waiting, queue.run("alice", LONG, work, 0.0)):
            with pytest.raises(RequestError, match="what you sent before failed or took too long"):
                await refused
            assert not bob.done()
        with pytest.raises(RequestError, match="took longer than"):
            await late
        await bob

    asyncio.run(check())


TURNS = [("alice", end), ("alice", work, 0.0), ("bob", work, 0.0)]


async def kill(queue, child):
    child.kill()
    while queue._pool.active:  # until the pool has noticed
        await asyncio.sleep(0.01)


async def die(queue, child):
    with pytest.raises(ProcessExpired) as expired:
        await queue.run("alice", LONG, end)
    assert expired.value.exitcode == 3


async def exceed(queue, child):
    with pytest.raises(RequestError, match=r"^this took longer than 0\.1 s: send less at a time") as refused:
        await queue.run("alice", 0.1, work, LONG)
    assert refused.value.status == 504


async def cancel(queue, child):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await queue.run("alice", LONG, work, LONG)


@pytest.mark.parametrize("stop", [kill, die, exceed, cancel])
def test_child_that_dies_or_is_killed_is_replaced(stop):
    child, again = in_queue(stop)
    assert child.pid != again
    child.wait(60)
