"""Whether the resilience programs notice faults: each is shown some."""

import json
import random
import socket
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.harness.http_client import Reply
from benchmarks.harness.processes import Server
from benchmarks.harness.results import all_met
from benchmarks.harness.threads import background
from benchmarks.resilience import __main__, drain, hostile, kills, overload, slow, soak
from benchmarks.resilience.attacks import Attack, Material
from benchmarks.resilience.known_answers import ALIVE, LONG, METRICS, Reference, WrongAnswer
from benchmarks.resilience.load_clients import Answer, Client, Failure, RequestLog, standing_client
from benchmarks.resilience.malformed_inputs import mutate_bytes, mutate_json
from benchmarks.resilience.sdk_clients import SdkLog
from photoz.protocol import open_inference
from photoz.protocol.tensors import Tensor
from photoz_client import ConnectionFailed, Prediction
from photoz_client._run import MODEL_CHANGED

PATH = "/v2/models/photoz/infer"
NAN = float("nan")


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    return Reference(PATH, rng.random((64, 180), np.float32), rng.random(64))


def inferred(pdf, z_mean, status=200):
    outputs = [(Tensor.of("pdf", pdf), True), (Tensor.of("z_mean", z_mean), True)]
    message = open_inference.encode_response(outputs, model_name="photoz", model_version="1")
    return Reply(status, {open_inference.HEADER_LENGTH: str(message.header_length)}, bytes(message.body))


def test_every_program_has_options_and_a_record_of_its_own():
    parsed = [__main__.parse([name]) for name in __main__.PROGRAMS]
    assert [one.output.name for one in parsed] == [f"resilience-{name}.json" for name in __main__.PROGRAMS]


def test_the_right_answer_is_accepted(reference):
    rows = [62, 63, 0, 1]
    nearly = inferred(reference.pdf[rows] + np.float32(3e-7), reference.z_mean[rows])
    assert 0 < reference.infer(4, 62).check(nearly) < 1e-6


@pytest.mark.parametrize(
    ("rows", "off", "status"),
    [
        ([0, 1, 2], 0.0, 200),  # a row is missing
        ([0, 1, 2, 3, 3], 0.0, 200),  # one came twice
        ([0, 1, 3, 2], 0.0, 200),  # two changed places
        ([0, 1, 2, 3], 2e-6, 200),
        ([0, 1, 2, 3], NAN, 200),
        ([0, 1, 2, 3], 0.0, 500),
    ],
)
def test_a_wrong_answer_is_noticed(reference, rows, off, status):
    reply = inferred(reference.pdf[rows], reference.z_mean[rows] + off, status)
    with pytest.raises(WrongAnswer):
        reference.infer(4).check(reply)


def test_a_table_of_other_galaxies_is_noticed(reference):
    def table(names):
        return Reply(200, {}, json.dumps({"object_id": names, "z_mean": reference.z_mean[:2].tolist()}).encode())

    assert reference.file(2).check(table(["g0", "g1"])) == 0
    for reply in (table(["g0", "g2"]), table(["g0"]), Reply(200, {}, b"{"), Reply(200, {}, b"{}")):
        with pytest.raises(WrongAnswer):
            reference.file(2).check(reply)
    with pytest.raises(WrongAnswer):
        METRICS.check(Reply(200, {}, b""))


def test_every_5xx_is_counted_and_the_first_ones_are_kept():
    tally = hostile.Tally()
    for number in range(9):
        tally.note(number, Attack("odd", (b"sent",)), "500", b"said")
    tally.note(9, Attack("odd", (b"sent",)), "422")
    assert tally.server_errors == 9
    assert [example["number"] for example in tally.examples] == [0, 1, 2, 3, 4]


def test_an_attack_follows_from_seed_and_number_alone():
    material = Material(PATH)
    attacks = [hostile.attack_of(3, number, material) for number in range(400)]
    time.sleep(2.1)  # the files of an archive are dated to two seconds
    assert attacks == [hostile.attack_of(3, number, material) for number in range(400)]
    assert len({attack.kind for attack in attacks}) > 25
    assert all(piece for attack in attacks for piece in attack.pieces[:1])


def test_mutations_change_bytes_and_keep_json_well_formed():
    whole, text = bytes(range(256)) * 10, b'{"images": [[0.1, null]], "pdf": true}'
    assert all(mutate_bytes(random.Random(seed), whole) != whole for seed in range(50))
    mutated = {mutate_json(random.Random(seed), text) for seed in range(50)}
    assert all(json.loads(one) or True for one in mutated if one)
    assert len(mutated) > 25
    assert mutate_json(random.Random(0), b"{") is None


@pytest.mark.parametrize(("early", "outcome"), [(True, "crossed"), (False, "lost_late")])
def test_a_request_that_crosses_the_close_of_its_connection_is_told_from_a_loss(early, outcome, monkeypatch):
    def serve():
        client, _ = listener.accept()
        with client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if early:
                client.shutdown(socket.SHUT_WR)
            client.recv(1 << 16)
            time.sleep(0.05)  # in which the client sees whether the connection was closed before

    log = RequestLog()
    with socket.create_server(("127.0.0.1", 0)) as listener, background([serve]):
        client = standing_client(listener.getsockname()[1], log, "lost_late")
        monkeypatch.setattr(Client, "is_over", lambda self: False)  # as if the close came just after it was asked
        time.sleep(0.1)
        client.ask(ALIVE)
    assert log.outcomes() == {outcome: 1}


@pytest.fixture
def expected():
    n = 6
    columns = {name: np.zeros(n) for name in ("z_median", "z_mode", "z_std", "z_lo68", "z_hi68", "z_lo95", "z_hi95")}
    return Prediction(
        object_id=np.array([f"galaxy {number}" for number in range(n)]),
        z_mean=np.linspace(0, 1, n),
        odds=np.ones(n),
        ood_score=np.ones(n),
        flags=np.zeros(n, np.int64),
        pdf=np.eye(n),
        model="m",
        **columns,
    )


def part(expected, rows, **changes):
    columns = {name: values[rows] for name, values in expected.columns()}
    return np.array(rows), replace(Prediction(**columns, model="m"), **changes)


def noted(expected, *parts):
    log = SdkLog()
    log.note(iter(parts), expected)
    return log.missing, log.doubled, log.wrong


def test_a_missing_a_doubled_and_a_wrong_row_are_told_apart(expected):
    four = part(expected, [0, 1, 2, 3])
    assert noted(expected, four, part(expected, [4, 5])) == (0, 0, 0)
    assert noted(expected, part(expected, [0, 1, 2]), part(expected, [4, 5])) == (1, 0, 0)
    assert noted(expected, four, part(expected, [3, 4, 5])) == (0, 1, 0)
    assert noted(expected, four, part(expected, [4, 5], z_mean=expected.z_mean[[4, 5]] + [0.0, 2e-6])) == (0, 0, 1)
    assert noted(expected, four, part(expected, [4, 5], object_id=np.array(["galaxy 5", "galaxy 4"]))) == (0, 0, 2)
    assert noted(expected, four, part(expected, [4, 5], pdf=None)) == (0, 0, 2)


@pytest.mark.parametrize(("reason", "cut"), [("gone", 0), (f"{MODEL_CHANGED}, from a to b", 1)])
def test_a_call_that_raises_misses_its_rows(expected, reason, cut):
    def broken():
        yield part(expected, [0, 1])
        raise ConnectionFailed(reason)

    log = SdkLog()
    log.note(broken(), expected)
    assert (log.missing, log.rows, log.raised) == (4, 2, [f"ConnectionFailed: {reason}"])
    assert (log.cut, log.rows_cut) == (cut, 4 * cut)
    assert not all_met(kills.results_of(log, [1.0]))
    assert [all_met(kills.results_of(SdkLog(rows=1), [1.0, longest])) for longest in (2.9, 60.0)] == [True, False]


def good_round():
    answers = [Answer(0.0, 1.0, kind) for kind in ("livez", f"infer-{LONG}", "plot")]
    log = RequestLog(answers, [Failure(3.0, "refused", "")])
    return drain.Round(log, ready=[(2.0, "503"), (3.0, "refused")], sigterm_at=1.0, exit_s=1.0, exit_code=0)


def test_readiness_has_to_end_before_connections_are_refused():
    def was_unready(*said):
        return drain.Round(sigterm_at=1.0, ready=[(0.0, "503"), *((2.0, one) for one in said)]).was_unready

    assert was_unready("200", "503", "refused")
    assert was_unready("503")
    assert not was_unready("200", "refused")
    assert not was_unready("refused", "503")


def test_a_lost_request_and_an_unclean_exit_fail_the_drain():
    assert all_met(drain.results_of([good_round()]))
    for failure in ((0.5, "refused"), (0.5, "lost_kept"), (2.0, "lost_fresh"), (2.0, "crossed"), (2.0, "wrong")):
        bad = good_round()
        bad.log.failures.append(Failure(*failure, ""))
        assert not all_met(drain.results_of([good_round(), bad]))
    for missing in range(3):
        bad = good_round()
        del bad.log.answers[missing]
        assert all_met(drain.results_of([good_round(), bad])) == (missing == 0)
    for code in (1, -9, None):
        assert not all_met(drain.results_of([good_round(), replace(good_round(), exit_code=code)]))


def test_less_goodput_and_slow_refusals_fail_the_overload():
    good = dict.fromkeys([*overload.REPORTED, "refused", "refused_p99_ms"], 10.0)
    good |= dict.fromkeys(["without_retry_after", "failed", "wrong", "sent_too_late"], 0.0)
    assert all_met(overload.results_of("singles", good))
    for change in ({"images_per_s": 8.9}, {"refused": 0}, {"refused_p99_ms": 51}, {"failed": 1}, {"wrong": 1}):
        assert not all_met(overload.results_of("singles", good | change))
    del good["refused_p99_ms"]
    assert not all_met(overload.results_of("singles", good))


@pytest.mark.parametrize(
    ("kind", "how", "met"),
    [
        *[("head", "408", True), ("head", slow.CLOSED, True), ("body", "408", True), ("large", "413", True)],
        *[("body", slow.CLOSED, False), ("large", slow.CLOSED, False), ("head", "200", False)],
        ("head", slow.STILL_OPEN, False),
    ],
)
def test_only_slow_heads_may_end_without_an_answer_and_none_may_stay_open(kind, how, met):
    ratios = {"64s": [1.0, 0.9, 0.97], "singles": [1.0]}
    assert all_met(slow.results_of(ratios, [slow.End(kind, 10.0, how)], 0.0)) == met
    assert not all_met(slow.results_of({"64s": [0.9], "singles": [1.0]}, [slow.End("head", 10.0, "408")], 0.0))


def test_memory_that_grows_and_answers_that_slow_down_fail_the_soak():
    def results(mb_per_hour, slowing):
        rng = np.random.default_rng(0)
        memory = [(at, 500 + mb_per_hour * at / 3600 + rng.normal(0, 0.02)) for at in np.arange(0.0, 1800.0, 5.0)]
        due = np.arange(0.0, 1800.0, 0.5)
        log = RequestLog([Answer(7 + at, 7 + at + 0.01 * (1 + slowing * at / 1800), "infer-1") for at in due])
        return soak.results_of(log, 7.0, memory, 1800.0)

    assert all_met(results(0.0, 0.0))
    assert results(3.0, 0.0)[2].found.median == pytest.approx(3.0, abs=0.1)
    assert not all_met(results(3.0, 0.0))
    assert not all_met(results(0.0, 0.5))


def test_a_slope_and_its_error_are_those_of_the_closed_form():
    found, error = soak.slope([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0])
    assert found == pytest.approx(0.6)
    assert error == pytest.approx(np.sqrt(0.2 / 2 / 5))


def test_errors_in_the_log_are_found(tmp_path):
    log = tmp_path / "log"
    lines = ['{"level": "error", "exception": "Traceback (most recent call last)"}', '{"level": "info"}', "[ERROR] a"]
    log.write_text("\n".join([*lines, "[INFO] b", "Traceback (most recent call last):", "  x", "ValueError: c"]))
    server = Server(None, None, log, 1.0)
    assert server.errors() == [lines[0], lines[2], "Traceback (most recent call last):"]
