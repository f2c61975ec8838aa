"""Whether the programs that try to break the service would notice if they had: each is shown a fault."""

import argparse
import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.endurance import attackers, drain, kills, overload, processes, slow, soak, verdict
from benchmarks.endurance.attacks import Attack, Material, garbled
from benchmarks.endurance.checks import Reference, WrongAnswer, metrics_scrape
from benchmarks.endurance.client import Reply

from photoz.protocol import open_inference
from photoz.protocol.tensors import Tensor
from photoz_client import ConnectionFailed, Prediction

PATH = "/v2/models/photoz/infer"
NAN = float("nan")


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    return Reference(PATH, rng.random((64, 180), np.float32), rng.random(64))


def inferred(pdf, z_mean, status=200):
    outputs = [(Tensor.of("pdf", pdf), True), (Tensor.of("z_mean", z_mean), True)]
    message = open_inference.encode_response(outputs, model_name="photoz", model_version="1")
    headers = {open_inference.HEADER_LENGTH: str(message.header_length)}
    return Reply(status, headers, bytes(message.body), 0.0, 0.0)


def test_the_right_answer_is_right(reference):
    rows = [62, 63, 0, 1]
    assert reference.infer(4, 62).check(inferred(reference.pdf[rows], reference.z_mean[rows])) == 0
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
        content = {"object_id": names, "z_mean": reference.z_mean[:2].tolist()}
        return Reply(200, {}, json.dumps(content).encode(), 0.0, 0.0)

    assert reference.file(2).check(table(["g0", "g1"])) == 0
    for reply in (table(["g0", "g2"]), table(["g0"]), Reply(200, {}, b"{", 0.0, 0.0), Reply(200, {}, b"{}", 0.0, 0.0)):
        with pytest.raises(WrongAnswer):
            reference.file(2).check(reply)


def test_metrics_without_metrics_are_noticed():
    with pytest.raises(WrongAnswer, match="no metrics"):
        metrics_scrape().check(Reply(200, {}, b"", 0.0, 0.0))


def test_every_5xx_is_counted_and_the_first_ones_are_kept():
    tally = attackers.Tally()
    for number in range(9):
        tally.note(number, Attack("odd", (b"sent",)), "500", b"said")
    tally.note(9, Attack("odd", (b"sent",)), "422")
    assert tally.server_errors == 9
    assert [example["number"] for example in tally.examples] == [0, 1, 2, 3, 4]


def test_an_attack_follows_from_seed_and_number_alone():
    material = Material(PATH)
    attacks = [attackers.attack_of(3, number, material) for number in range(400)]
    time.sleep(2.1)  # the files of an archive are dated to two seconds
    assert attacks == [attackers.attack_of(3, number, material) for number in range(400)]
    assert len({attack.kind for attack in attacks}) > 25
    assert all(piece for attack in attacks for piece in attack.pieces[:1])


def test_garbled_bytes_differ():
    whole = bytes(range(256)) * 10
    assert all(garbled(random.Random(seed), whole) != whole for seed in range(50))


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
    seen = kills.Seen()
    seen.note(iter(parts), expected, lambda: 1.0)
    return seen.missing, seen.doubled, seen.wrong


def test_a_call_in_which_every_row_came_once_is_right(expected):
    assert noted(expected, part(expected, [0, 1, 2, 3]), part(expected, [4, 5])) == (0, 0, 0)


def test_a_missing_a_doubled_and_a_wrong_row_are_told_apart(expected):
    assert noted(expected, part(expected, [0, 1, 2]), part(expected, [4, 5])) == (1, 0, 0)
    assert noted(expected, part(expected, [0, 1, 2, 3]), part(expected, [3, 4, 5])) == (0, 1, 0)
    off = expected.z_mean[[4, 5]] + [0.0, 2e-6]
    assert noted(expected, part(expected, [0, 1, 2, 3]), part(expected, [4, 5], z_mean=off)) == (0, 0, 1)
    others = np.array(["galaxy 5", "galaxy 4"])
    assert noted(expected, part(expected, [0, 1, 2, 3]), part(expected, [4, 5], object_id=others)) == (0, 0, 2)
    assert noted(expected, part(expected, [0, 1, 2, 3]), part(expected, [4, 5], pdf=None)) == (0, 0, 2)


def test_a_call_that_raised_misses_its_rows(expected):
    def broken():
        yield part(expected, [0, 1])
        raise ConnectionFailed("gone")

    seen = kills.Seen()
    seen.note(broken(), expected, lambda: 1.0)
    assert (seen.missing, seen.rows, seen.raised) == (4, 2, ["ConnectionFailed: gone"])


def test_readiness_has_to_end_before_listening_does():
    def was_unready(*said):
        return drain.Round(told_at=1.0, ready=[(0.0, "503"), *((2.0, one) for one in said)]).was_unready

    assert was_unready("200", "503", "refused")
    assert was_unready("503")
    assert not was_unready("200", "refused")
    assert not was_unready("refused", "503")


def test_a_lost_request_and_an_unclean_end_fail_the_drain():
    good = drain.Round(told_at=1.0, ready=[(2.0, "503"), (3.0, "refused")], exit_s=1.0, exit_code=0)
    good.outcomes.update({"right": 3, "long_right": 1, "plot_right": 1})
    assert verdict.is_met(drain.figures_of([good]), drain.WANTED)
    for change in ({"lost": 1}, {"wrong": 1}, {"long_right": -1}, {"plot_right": -1}):
        bad = replace(good, outcomes=good.outcomes.copy())
        bad.outcomes.update(change)
        assert not verdict.is_met(drain.figures_of([good, bad]), drain.WANTED)
    for exit_code in (1, -9, None):
        assert not verdict.is_met(drain.figures_of([good, replace(good, exit_code=exit_code)]), drain.WANTED)


def test_goodput_counts_what_was_served_in_time_and_nothing_else():
    seen = overload.Seen(served_at=[0.5, 1.5, 2.5, 9.0], served_s=[0.1] * 4, refused_s=[0.01, 0.02])
    seen.statuses.update({"200": 4, "429": 2, "503": 1, "no answer": 0})
    figures = overload.figures_of(seen, n=64, start=1.0, end=3.0)
    assert figures["goodput"] == 64
    assert (figures["failed"], figures["refused"]) == (1, 2)
    assert figures["refused_p99_ms"] == pytest.approx(20, rel=0.02)


def test_what_was_never_refused_does_not_meet_the_bar_for_refusals():
    assert not verdict.is_met({"singles_refused_p99_ms": 10.0}, overload.wanted("singles"))


def test_slow_connections_that_stay_open_or_end_without_408_are_told():
    seen = slow.Seen([("head", 10.0, "408"), ("body", 12.0, "no answer: reset"), ("large", 20.0, slow.STILL_OPEN)])
    figures = slow.figures_of({"64s": [1.0, 0.9, 0.97], "singles": []}, seen)
    assert (figures["ratio_64s"], figures["still_open"], figures["ended"]) == (0.97, 1, 2)
    assert figures["ended_rightly"] == pytest.approx(1 / 3)
    assert not verdict.is_met(figures, slow.wanted())


def test_memory_that_grows_and_answers_that_slow_down_fail_the_soak():
    def figures(mb_per_hour, slowing):
        rng = np.random.default_rng(0)
        seen = soak.Seen()
        seen.memory = [(at, 500 + mb_per_hour * at / 3600 + rng.normal(0, 0.02)) for at in np.arange(0.0, 1800.0, 5.0)]
        seen.timed = [(at, 0.01 * (1 + slowing * at / 1800)) for at in np.arange(0.0, 1800.0, 0.5)]
        seen.kinds["infer-1"] = len(seen.timed)
        return soak.figures_of(seen, 1800.0)

    steady = figures(0.0, 0.0)
    assert verdict.is_met(steady, soak.WANTED)
    assert abs(steady["slope_mb_per_hour"]) < 4 * steady["slope_error_mb_per_hour"] < 0.1
    assert figures(3.0, 0.0)["slope_mb_per_hour"] == pytest.approx(3.0, abs=0.1)
    assert not verdict.is_met(figures(3.0, 0.0), soak.WANTED)
    assert not verdict.is_met(figures(0.0, 0.5), soak.WANTED)


def test_a_slope_and_its_error_are_those_of_the_closed_form():
    found, error = processes.slope([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0])
    assert found == pytest.approx(0.6)
    assert error == pytest.approx(np.sqrt(0.2 / 2 / 5))


def test_errors_and_tracebacks_are_counted_once_each():
    traceback = "Traceback (most recent call last):\n"
    log = f"[ERROR] a\n{traceback}  x\nValueError: b\n[INFO] c\n[ERROR] d\n{traceback}KeyError: e\n"
    assert processes.errors_in(log) == 2
    assert processes.errors_in(f"[INFO] a\n{traceback}") == 1
    as_json = (
        '{"level": "error", "exception": "Traceback (most recent call last):\\n  x\\nValueError: b"}\n{"level": "info"}'
    )
    assert processes.errors_in(as_json) == 1
    assert processes.raised_in(as_json) == {'ValueError: b"}': 1}
    assert processes.raised_in(log) == {"ValueError: b": 1, "KeyError: e": 1}


def test_a_verdict_is_printed_and_written_and_a_figure_that_is_missing_fails(tmp_path, capsys):
    wanted = [verdict.at_most("lost", "lost", 0), verdict.told("time", "time")]
    chosen = argparse.Namespace(output=tmp_path / "sub" / "x.json", seed=7)
    assert verdict.conclude("x", chosen, {"lost": 0.0}, wanted, {"curve": [1]}) == 0
    assert "x: PASS" in capsys.readouterr().out
    record = json.loads(chosen.output.read_text())
    assert (record["passed"], record["options"]["seed"], record["curve"]) == (True, 7, [1])
    assert verdict.conclude("x", chosen, {"lost": 1.0}, wanted, {}) == 1
    assert verdict.conclude("x", chosen, {}, wanted, {}) == 1
    assert "x: FAIL" in capsys.readouterr().out
