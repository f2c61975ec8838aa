"""The longest time that a request may take."""

import asyncio
import gc

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from service.edge.deadline import Deadline


async def slow(scope, receive, send):
    await asyncio.sleep(10)


async def quick(scope, receive, send):
    await PlainTextResponse("done")(scope, receive, send)


async def long_answer(scope, receive, send):
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.05)
            yield b"x"

    await StreamingResponse(parts())(scope, receive, send)


async def gives_up_by_itself(scope, receive, send):
    raise TimeoutError("of something else")


async def get(app, timeout):
    transport = httpx.ASGITransport(Deadline(app, timeout))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.get("/")


def test_what_takes_too_long_is_given_up_with_a_sentence():
    answer = asyncio.run(get(slow, 0.05))
    assert answer.status_code == 504
    assert answer.json() == {"error": "this took longer than 0.05 s; ask for fewer galaxies at a time"}


def test_an_answer_that_has_begun_may_take_its_time():
    answer = asyncio.run(get(long_answer, 0.1))
    assert (answer.status_code, answer.text) == (200, "xxx")


def test_another_timeout_passes_through():
    with pytest.raises(TimeoutError, match="of something else"):
        asyncio.run(get(gives_up_by_itself, 10))


def test_an_answered_request_leaves_no_timer_behind():
    async def timers():
        for _ in range(50):
            await get(quick, 300)
        gc.collect()
        handles = [one for one in gc.get_objects() if isinstance(one, asyncio.TimerHandle) and not one.cancelled()]
        return [one for one in handles if one.when() > asyncio.get_running_loop().time() + 200]

    assert asyncio.run(timers()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_the_service_has_none_of_bentomls_timers():
    from _bentoml_impl.server.app import ServiceAppFactory
    from bentoml._internal.server.http import traffic

    from service.app import Photoz

    Photoz.inject_config()
    middlewares = ServiceAppFactory(Photoz).middlewares
    (place,) = [middleware for middleware in middlewares if "timeout" in middleware.kwargs]
    assert place.cls(quick, **place.kwargs) is quick
    assert traffic.TimeoutMiddleware is place.cls
