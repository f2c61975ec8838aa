"""Whether the resilience programs notice faults: each is shown some."""

import contextlib
import json
import socket
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.harness.http_client import Reply
from benchmarks.harness.processes import Server
from benchmarks.harness.results import all_met
from benchmarks.harness.threads import background
from benchmarks.resilience import drain, hostile, kills, overload, soak
from benchmarks.resilience.clients import Answer, Client, Failure, RequestLog, standing_client
from benchmarks.resilience.known_answers import ALIVE, LONG, METRICS, Reference, WrongAnswer
from benchmarks.resilience.sdk_clients import SdkLog
from photoz.protocol import open_inference
from photoz.protocol.tensors import Tensor
from photoz_client import ConnectionFailed
from photoz_client._parts import MODEL_CHANGED
from tests.attack.attacks import Attack, attack_of

REFERENCE = Reference("/v2", np.random.default_rng(0).random((64, 180), np.float32), np.linspace(0, 1, 64))


@pytest.mark.parametrize(
    ("rows", "off", "status", "right"),
    [
        ([62, 63, 0, 1], 3e-7, 200, True),
        ([62, 63, 0], 0.0, 200, False),  # a row is missing
        ([62, 63, 0, 1, 1], 0.0, 200, False),  # one came twice
        ([62, 63, 1, 0], 0.0, 200, False),  # two changed places
        *[([62, 63, 0, 1], 2e-6, 200, False), ([62, 63, 0, 1], np.nan, 200, False), ([62, 63, 0, 1], 0.0, 500, False)],
    ],
)
def test_a_wrong_answer_is_noticed(rows, off, status, right):
    columns = {"pdf": REFERENCE.pdf[rows], "z_mean": REFERENCE.z_mean[rows] + off}
    outputs = [(Tensor.of(name, values), True) for name, values in columns.items()]
    message = open_inference.encode_response(outputs, model_name="photoz", model_version="1")
    reply = Reply(status, {open_inference.HEADER_LENGTH: str(message.header_length)}, bytes(message.body))
    with contextlib.nullcontext() if right else pytest.raises(WrongAnswer):
        assert REFERENCE.infer(4, 62).check(reply) == pytest.approx(off)


def test_a_table_of_other_galaxies_is_noticed():
    def table(names):
        return Reply(200, {}, json.dumps({"object_id": names, "z_mean": REFERENCE.z_mean[:2].tolist()}).encode())

    assert REFERENCE.file(2).check(table(["g0", "g1"])) == 0
    for reply in (table(["g0", "g2"]), table(["g0"]), Reply(200, {}, b"{"), Reply(200, {}, b"{}")):
        with pytest.raises(WrongAnswer):
            REFERENCE.file(2).check(reply)
    with pytest.raises(WrongAnswer):
        METRICS.check(Reply(200, {}, b""))


def test_attacks_follow_from_seed_and_number_alone_and_every_5xx_is_counted():
    attacks, tally = [attack_of(3, number) for number in range(400)], hostile.Tally()
    assert attacks == [attack_of(3, number) for number in range(400)]
    assert len({attack.kind for attack in attacks}) > 25
    for number, status in enumerate(["500"] * 9 + ["422"]):
        tally.note(number, Attack("odd", (b"sent",)), status)
    assert tally.server_errors == 9
    assert [example["number"] for example in tally.examples] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("reads", "outcome"), [(False, "crossed"), (True, "lost_late")])
def test_a_request_that_crosses_the_close_of_its_connection_is_told_from_a_loss(reads, outcome, monkeypatch):
    def serve():
        client, _ = listener.accept()
        with client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if reads:
                client.recv(1 << 16)
            client.shutdown(socket.SHUT_WR)  # as hyper does, before it closes the connection

    log = RequestLog()
    with socket.create_server(("127.0.0.1", 0)) as listener, background([serve]):
        client = standing_client(listener.getsockname()[1], log, "lost_late")
        monkeypatch.setattr(Client, "is_over", lambda self: False)  # as if the close came just after it was asked
        client.ask(ALIVE)
    assert log.outcomes() == {outcome: 1}


def predicted(rows, **changes):
    """Make the part of an answer of the SDK for some of six galaxies."""
    names = np.array([f"galaxy {row}" for row in rows])
    columns = {"object_id": names, "z_mean": np.array(rows) / 6, "flags": np.zeros(len(rows)), "pdf": np.eye(6)[rows]}
    return np.array(rows), SimpleNamespace(model="a", **columns | changes)


EXPECTED, FIRST = predicted(range(6))[1], predicted([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("parts", "missing_doubled_wrong"),
    [
        ([FIRST, predicted([4, 5])], (0, 0, 0)),
        ([predicted([0, 1, 2]), predicted([4, 5])], (1, 0, 0)),
        ([FIRST, predicted([3, 4, 5])], (0, 1, 0)),
        ([FIRST, predicted([4, 5], z_mean=np.array([4 / 6, 5 / 6 + 2e-6]))], (0, 0, 1)),
        ([FIRST, predicted([4, 5], object_id=np.array(["galaxy 5", "galaxy 4"]))], (0, 0, 2)),
        ([FIRST, predicted([4, 5], pdf=None)], (0, 0, 2)),
    ],
)
def test_missing_doubled_and_wrong_rows_are_counted(parts, missing_doubled_wrong):
    log = SdkLog()
    log.note(iter(parts), EXPECTED)
    assert (log.missing, log.doubled, log.wrong) == missing_doubled_wrong


@pytest.mark.parametrize(("reason", "cut"), [("gone", 0), (f"{MODEL_CHANGED}, from a to b", 1)])
def test_a_call_that_raises_misses_its_rows(reason, cut):
    def broken():
        yield predicted([0, 1])
        raise ConnectionFailed(reason)

    log = SdkLog()
    log.note(broken(), EXPECTED)
    assert (log.missing, log.rows, log.raised) == (4, 2, [f"ConnectionFailed: {reason}"])
    assert (log.cut, log.rows_cut) == (cut, 4 * cut)
    assert not all_met(kills.results_of(log, [1.0]))
    assert [all_met(kills.results_of(SdkLog(rows=1), [1.0, longest])) for longest in (2.9, 60.0)] == [True, False]


def good_round():
    answers = [Answer(0.0, 1.0, kind) for kind in ("livez", f"infer-{LONG}", "plot")]
    log = RequestLog(answers, [Failure(3.0, "refused", "")])
    return drain.Round(log, ready=[(2.0, "503"), (3.0, "refused")], sigterm_at=1.0, exit_s=1.0, exit_code=0)


def test_a_lost_request_readiness_and_an_unclean_exit_fail_the_drain():
    def met(spoil):
        bad = good_round()
        spoil(bad)
        return all_met(drain.results_of([good_round(), bad]))

    assert [met(lambda bad, number=number: bad.log.answers.pop(number)) for number in range(3)] == [True, False, False]
    for failure in ((0.5, "refused"), (0.5, "lost_kept"), (2.0, "lost_fresh"), (2.0, "crossed"), (2.0, "wrong")):
        assert not met(lambda bad, failure=failure: bad.log.failures.append(Failure(*failure, "")))
    for statuses, right in ((["200", "503"], True), (["200", "refused"], False), (["refused", "503"], False)):
        assert met(lambda bad, s=statuses: setattr(bad, "ready", [(0.0, "503"), *((2.0, one) for one in s)])) == right
    for code in (1, -9, None):
        assert not met(lambda bad, code=code: setattr(bad, "exit_code", code))


def test_less_goodput_and_slow_refusals_fail_the_overload():
    good = {"goodput": 0.95, "refused": 10.0, "refused_p99_ms": 10.0, "capacity": 1.0}
    good |= dict.fromkeys(("without_retry_after", "lost", "others"), 0.0)
    slow = good | {"goodput": 0.5, "refused_p99_ms": 90.0}
    assert all_met(overload.results_of("singles", [good, slow, good]))
    assert not all_met(overload.results_of("singles", [slow, slow, good]))
    for name, value in (("goodput", 0.89), ("refused_p99_ms", 51), ("refused", 0)):
        assert not all_met(overload.results_of("singles", [good | {name: value}]))
    for name in ("lost", "others", "without_retry_after"):
        assert not all_met(overload.results_of("singles", [good, good | {name: 1.0}, good]))


def test_memory_that_grows_and_answers_that_slow_down_fail_the_soak():
    def results(mb_per_hour, slowing):
        rng = np.random.default_rng(0)
        memory = [(at, 500 + mb_per_hour * at / 3600 + rng.normal(0, 0.02)) for at in np.arange(0.0, 1800.0, 5.0)]
        sent = np.arange(0.0, 1800.0, 0.5)
        log = RequestLog([Answer(7 + at, 7 + at + 0.01 * (1 + slowing * at / 1800), "infer-1") for at in sent])
        return soak.results_of(log, 7.0, memory, 1800.0)

    assert soak.slope([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0]) == pytest.approx((0.6, np.sqrt(0.2 / 2 / 5)))
    assert results(3.0, 0.0)[2].median == pytest.approx(3.0, abs=0.1)
    assert [all_met(results(*change)) for change in ((0.0, 0.0), (3.0, 0.0), (0.0, 0.5))] == [True, False, False]


def test_errors_in_the_log_are_found(tmp_path):
    log = tmp_path / "log"
    lines = ['{"level": "error", "exception": "Traceback (most recent call last)"}', '{"level": "info"}', "[ERROR] a"]
    log.write_text("\n".join([*lines, "[INFO] b", "Traceback (most recent call last):", "  x", "ValueError: c"]))
    assert Server(None, None, log, 1.0).errors() == [lines[0], lines[2], "Traceback (most recent call last):"]
