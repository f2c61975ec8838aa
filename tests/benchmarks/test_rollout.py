"""Whether the proxy does what a Service of Kubernetes does, and whether a roll-out that loses requests is noticed."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.endurance import kills, rollout, verdict
from benchmarks.endurance.callers import SDK, Answer, Seen, ask
from benchmarks.endurance.checks import alive
from benchmarks.endurance.client import Connection, Lost, Refused, request
from benchmarks.endurance.proxy import NOBODY, Proxy, open_address
from benchmarks.endurance.rolls import Measure, Roll
from benchmarks.servers import free_port

from photoz_client import PhotozError

PROBE = PROPAGATION = 0.05
WHO = request("GET", "/who")


@dataclass
class Named:
    """A server that answers with its name, and to /readyz whether it is ready."""

    name: str
    port: int = 0
    is_ready: bool = False

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Named"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                status = b"503 No" if head.startswith(b"GET /readyz") and not self.is_ready else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 1\r\n\r\n%b" % (status, self.name.encode()))
        writer.close()


async def who(connection: Connection) -> str:
    return (await connection.ask(WHO, 5.0)).body.decode()


async def who_takes_new_ones(port: int, n: int = 40) -> set[str]:
    found = set()
    for _ in range(n):
        with contextlib.closing(await Connection.open(port)) as connection:
            found.add(await who(connection))
    return found


async def wait_for(condition: Callable[[], bool]) -> float:
    begun = time.perf_counter()
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0.005)
    return time.perf_counter() - begun


def test_new_connections_go_to_who_is_ready_and_standing_ones_stay():
    async def scenario() -> None:
        said: list[tuple[str, int]] = []
        proxy = Proxy(PROBE, PROPAGATION, lambda *what: said.append(what))
        async with Named("a", is_ready=True).serving() as a, Named("b").serving() as b, proxy.listening() as port:
            proxy.add(a.port)
            proxy.add(b.port)
            await wait_for(lambda: ("ready", a.port) in said)
            assert await who_takes_new_ones(port) == {"a"}
            standing = await Connection.open(port)
            assert await who(standing) == "a"
            b.is_ready = True
            assert await wait_for(lambda: ("ready", b.port) in said) >= PROPAGATION
            assert await who_takes_new_ones(port) == {"a", "b"}
            a.is_ready = False
            assert await wait_for(lambda: ("unready", a.port) in said) >= PROPAGATION
            assert await who_takes_new_ones(port) == {"b"}
            assert await who(standing) == "a"
            standing.close()

    asyncio.run(scenario())


def test_until_it_is_known_connections_go_to_who_has_gone_and_are_reset():
    async def scenario() -> None:
        said: list[tuple[str, int]] = []
        proxy = Proxy(PROBE, 0.5, lambda *what: said.append(what))
        async with proxy.listening() as port:
            async with Named("a", is_ready=True).serving() as a:
                proxy.add(a.port)
                await wait_for(lambda: ("ready", a.port) in said)
            with pytest.raises((Lost, Refused)):
                await who_takes_new_ones(port, 1)
            assert said[-1] == ("refused", a.port)
            await wait_for(lambda: ("unready", a.port) in said)
            with pytest.raises((Lost, Refused)):
                await who_takes_new_ones(port, 1)
            assert said[-1] == ("refused", NOBODY)

    asyncio.run(scenario())


def test_the_proxy_passes_on_much_in_both_directions_and_the_farewell_of_a_server():
    large = bytes(range(256)) * (1 << 16)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_probe = (await reader.readexactly(4)).startswith(b"GET ")
        body = b"" if is_probe else large[:4] + await reader.readexactly(len(large) - 4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server, open_address(0.05, 0.05) as address:
            port = server.sockets[0].getsockname()[1]
            address.add(port)
            await address.wait_for(port, 20.0)
            with contextlib.closing(await Connection.open(address.port)) as connection:
                assert (await connection.ask(large, 20.0)).body == large
                await wait_for(connection.is_over)

    asyncio.run(scenario())


def test_the_address_counts_what_nobody_took():
    async def scenario() -> None:
        async with open_address(PROBE, PROPAGATION) as address:
            with pytest.raises((Lost, Refused)):
                await who_takes_new_ones(address.port, 1)
            await wait_for(lambda: address.refusals[NOBODY] == 1)
            port = free_port()
            address.add(port)
            with pytest.raises(TimeoutError):
                await address.wait_for(port, 0.3)

    asyncio.run(scenario())


def good() -> tuple[Measure, Measure]:
    """Make two measures of one roll-out each that meet every bar."""
    kinds = ("infer-1000", "plot", "infer-1", "livez")
    measures = []
    for after in ("infer-1", SDK):
        one = Measure(rolls=[Roll("a", "b", 1.0, 2.0, 3.0, 1.0, 0)])
        one.seen.answers = [Answer(1.5, 2.5, kind, "a") for kind in kinds] + [Answer(3.5, 3.6, after, "b")]
        measures.append(one)
    raw, sdk = measures
    sdk.seen.sdk.rows = 7
    return raw, sdk


def spoil_outcome(name: str) -> Callable[[Measure], None]:
    return lambda measure: measure.seen.fail(name, "")


def spoil_exit(code: int | None) -> Callable[[Measure], None]:
    def spoil(measure: Measure) -> None:
        measure.rolls[0].exit_code = code

    return spoil


def leave_out(kind: str) -> Callable[[Measure], None]:
    def spoil(measure: Measure) -> None:
        measure.seen.answers = [one for one in measure.seen.answers if one.kind != kind]

    return spoil


def relabel(kind: str, at: float, label: str) -> Callable[[Measure], None]:
    def spoil(measure: Measure) -> None:
        measure.seen.answers = [
            replace(one, label=label) if (one.kind, one.asked_at) == (kind, at) else one for one in measure.seen.answers
        ]

    return spoil


def test_a_good_roll_out_meets_the_bars():
    assert verdict.is_met(rollout.figures_of(*good()), rollout.WANTED)


@pytest.mark.parametrize(
    "spoil",
    [
        *map(spoil_outcome, ("lost_kept", "lost_fresh", "lost_late", "wrong", "unavailable")),
        *map(spoil_exit, (1, -9, None)),
        leave_out("infer-1000"),
        leave_out("plot"),
        relabel("plot", 1.5, "b"),  # not the old one answered it
        relabel("infer-1", 3.5, "a"),  # the old one answered after its end, and the new one did not
    ],
)
def test_a_bad_one_does_not(spoil):
    raw, sdk = good()
    spoil(raw)
    assert not verdict.is_met(rollout.figures_of(raw, sdk), rollout.WANTED)


def test_a_failure_of_the_sdk_is_told():
    for name, value in (("raised", ["gone"]), ("missing", 1), ("doubled", 1), ("wrong", 1)):
        raw, sdk = good()
        setattr(sdk.seen.sdk, name, value)
        assert not verdict.is_met(rollout.figures_of(raw, sdk), rollout.WANTED)


def test_a_call_that_another_model_cut_is_no_failure():
    raw, sdk = good()
    expected = SimpleNamespace(z_mean=np.zeros(3))

    def parts(words):
        raise PhotozError(words)
        yield

    sdk.seen.sdk.note(parts(f"{kills.MODEL_CHANGED}, from a to b"), expected, lambda: 0.0)
    figures = rollout.figures_of(raw, sdk)
    assert verdict.is_met(figures, rollout.WANTED)
    assert (figures["sdk_cut"], figures["sdk_rows_cut"]) == (1, 3)
    sdk.seen.sdk.note(parts("gone"), expected, lambda: 0.0)
    assert not verdict.is_met(rollout.figures_of(raw, sdk), rollout.WANTED)


@pytest.mark.parametrize(("early", "outcome"), [(True, "crossed"), (False, "lost_late")])
def test_a_farewell_that_crossed_a_request_is_told_from_a_loss(early, outcome):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not early:
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def scenario() -> Seen:
        seen = Seen()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            connection = await Connection.open(server.sockets[0].getsockname()[1])
            if early:
                await wait_for(connection.is_over)
            await ask(connection, alive(), seen, "late", 0.0)
            connection.close()
        return seen

    assert asyncio.run(scenario()).outcomes == {outcome: 1}


def test_times_are_told_by_what_went_on():
    roll = Roll("a", "b", begun_at=10.0, told_at=12.0, ended_at=15.0)
    assert [roll.phase(at) for at in (9.0, 10.0, 12.0, 15.0, 15.1)] == ["calm", "starting", "ending", "ending", "calm"]
    measure = Measure(rolls=[roll])
    measure.seen.answers = [
        Answer(at, at + took, "infer-1", "a") for at, took in ((9.0, 0.1), (12.5, 0.3), (13.5, 0.2))
    ]
    measure.seen.answers.append(Answer(12.6, 14.6, "plot", "a"))  # takes its time, in calm too
    assert measure.times("ending") == {"p99_ending_ms": pytest.approx(299), "gap_ending_ms": pytest.approx(3700)}
    assert measure.times("starting") == {}


@pytest.mark.slow
def test_a_roll_out_of_the_real_service_loses_nothing(tmp_path, bundle_path, capsys):
    output = tmp_path / "rollout.json"
    options = ["--rolls=1", "--calm=0.5", "--capacity-seconds=1", "--probe=0.5", "--propagation=0.2"]
    code = rollout.main([f"--bundle={bundle_path}", f"--output={output}", *options])
    assert code == 0, capsys.readouterr().out
    record = json.loads(output.read_text())
    assert record["figures"]["rolls"] == 2
    assert [roll["new"].endswith("-next") for one in ("raw", "sdk") for roll in record[one]["rolls"]] == [True, False]
