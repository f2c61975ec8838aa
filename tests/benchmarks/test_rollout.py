"""Whether HAProxy does what a Service of Kubernetes does, and whether a roll-out that loses requests is noticed."""

import contextlib
import json
import shutil
import threading

import pytest

from benchmarks.harness.http_client import Connection, Lost, Refused, request
from benchmarks.harness.results import all_met
from benchmarks.resilience import __main__, rollout
from benchmarks.resilience.balancer import running_balancer
from benchmarks.resilience.load_clients import Answer, Failure
from benchmarks.resilience.rollout import Record, Rollout
from tests.benchmarks.servers import serving

NAME = request("GET", "/name")

needs_haproxy = pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs HAProxy")


def instance(port: int, ready: threading.Event) -> contextlib.AbstractContextManager[int]:
    """Answer with the port, and at /readyz whether it is ready."""
    return serving(lambda path: (503 if path == "/readyz" and not ready.is_set() else 200, str(port).encode()), port)


def name(connection: Connection) -> int:
    return int(connection.ask(NAME, 5.0).body)


def names_of_new_connections(port: int, n: int = 30) -> set[int]:
    with contextlib.ExitStack() as stack:
        return {name(stack.enter_context(contextlib.closing(Connection(port)))) for _ in range(n)}


@needs_haproxy
def test_new_connections_go_to_ready_instances_and_open_ones_stay():
    with running_balancer(0.05, 0.05) as balancer, contextlib.ExitStack() as stack:
        a, b = balancer.ports
        with pytest.raises((Lost, Refused)):
            names_of_new_connections(balancer.port, 1)
        ready_a, ready_b = threading.Event(), threading.Event()
        stack.enter_context(instance(a, ready_a))
        stack.enter_context(instance(b, ready_b))
        ready_a.set()
        balancer.wait_for(a, "UP")
        assert names_of_new_connections(balancer.port) == {a}
        standing = stack.enter_context(contextlib.closing(Connection(balancer.port)))
        assert name(standing) == a
        ready_b.set()
        balancer.wait_for(b, "UP")
        assert names_of_new_connections(balancer.port) == {a, b}
        ready_a.clear()
        balancer.wait_for(a, "DOWN")
        assert names_of_new_connections(balancer.port) == {b}
        assert name(standing) == a
        with pytest.raises(TimeoutError):
            balancer.wait_for(a, "UP", 0.2)


@needs_haproxy
def test_until_it_is_known_connections_go_to_an_instance_that_has_gone_and_are_closed():
    ready = threading.Event()
    ready.set()
    with running_balancer(2.0, 1.0) as balancer:
        with instance(balancer.ports[0], ready):
            balancer.wait_for(balancer.ports[0], "UP")
        with pytest.raises((Lost, Refused)):
            names_of_new_connections(balancer.port, 1)


def good() -> Record:
    """Make two roll-outs that meet all thresholds."""
    record = Record(rollouts=[Rollout(*"ab", 1.0, 2.0, 3.0, 1.0, 0), Rollout(*"ba", 5.0, 6.0, 7.0, 1.0, 0)])
    for old, new, at in (("a", "b", 0.0), ("b", "a", 4.0)):
        record.log.answers += [Answer(at + 1.5, at + 2.5, kind, old) for kind in ("infer-1000", "plot", "livez")]
        record.log.answers.append(Answer(at + 3.5, at + 3.6, "infer-1", new))
    record.sdk.rows = 7
    return record


def test_good_roll_outs_meet_the_thresholds_and_a_request_that_fails_does_not():
    assert all_met(rollout.results_of(good()))
    lost = ("lost_kept", "lost_fresh", "lost_late", "cut", "refused")
    for outcome in (*lost, "wrong", "unavailable", "busy", "crossed"):
        record = good()
        record.log.failures.append(Failure(1.0, outcome, ""))
        assert all_met(rollout.results_of(record)) == (outcome == "crossed")


@pytest.mark.parametrize("kind", ["infer-1000", "plot", "infer-1"])
def test_answers_that_are_missing_or_from_the_other_version_are_noticed(kind):
    record, other = good(), {"a": "b", "b": "a"}
    answers = record.log.answers
    record.log.answers = [one for one in answers if one.kind != kind]
    assert not all_met(rollout.results_of(record))
    record.log.answers = [one._replace(label=other[one.label]) if one.kind == kind else one for one in answers]
    assert not all_met(rollout.results_of(record))


def test_an_unclean_shutdown_and_a_failure_of_the_sdk_are_noticed():
    for name, value in (("raised", ["gone"]), ("missing", 1), ("doubled", 1), ("wrong", 1)):
        record = good()
        setattr(record.sdk, name, value)
        assert not all_met(rollout.results_of(record))
    for code in (1, -9, None):
        record = good()
        record.rollouts[1].exit_code = code
        assert not all_met(rollout.results_of(record))


@pytest.mark.slow
@needs_haproxy
def test_a_roll_out_of_the_real_service_loses_nothing(tmp_path, bundle_path, capsys):
    output = tmp_path / "rollout.json"
    options = ["--rollouts=1", "--calm=3", "--capacity-seconds=1", "--probe=0.5", "--propagation=0.2"]
    parsed = __main__.parse(["rollout", f"--bundle={bundle_path}", f"--output={output}", *options])
    assert rollout.run(parsed) == 0, capsys.readouterr().out
    rollouts = json.loads(output.read_text())["rollouts"]
    assert [one["new"].endswith("-next") for one in rollouts] == [True, False]
