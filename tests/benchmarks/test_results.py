"""Ratios, medians, thresholds, and what the tables and records say of them."""

import argparse
import json

import pytest

from benchmarks.harness.results import Result, Spread, Threshold, all_met, at_most, conclude, reported, write_rounds
from benchmarks.speed.thresholds import ratio

FASTER = ratio("ours / theirs", "c/ours", "c/theirs", 2, 3)
SLOWER = Threshold("ours / theirs", ("c/ours", "images_per_s"), ("c/theirs", "images_per_s"), 3, at_most=True)


def rounds(*pairs):
    return [{"c/ours": {"images_per_s": ours}, "c/theirs": {"images_per_s": theirs}} for ours, theirs in pairs]


def test_ratios_are_taken_within_each_round_that_has_both_sides():
    # The medians of the two sides, 300 and 100, would give 3.
    assert FASTER.result(rounds((100, 100), (300, 150), (800, 80))).found == Spread(median=2, low=1, high=10)
    assert FASTER.result([*rounds((300, 100)), {"c/ours": {"images_per_s": 1.0}}]).found == Spread(3, 3, 3)
    memory = Threshold("memory", ("c/memory", "rss_mb"), limit=450, at_most=True)
    assert memory.result([{"c/memory": {"rss_mb": 388.0}}]).found == Spread(388, 388, 388)


@pytest.mark.parametrize(
    ("threshold", "ours", "met"),
    [
        *[(FASTER, 199, "**no**"), (FASTER, 200, "yes"), (FASTER, 299, "yes"), (FASTER, 300, "yes, and the goal")],
        *[(SLOWER, 300, "yes"), (SLOWER, 301, "**no**"), (ratio("cost", "c/ours", "c/theirs"), 50, "")],
    ],
)
def test_limit_and_goal_are_judged(threshold, ours, met):
    result = threshold.result(rounds((ours, 100)))
    assert result.cells[-1] == met
    assert all_met([result]) == (met != "**no**")


def test_what_was_not_measured_is_not_met():
    assert FASTER.result([]).cells == ("ours / theirs", "not measured", "at least 2; go for 3", "")
    for missing in (FASTER.result([]), at_most("lost", None, 0), at_most("lost", float("nan"), 0)):
        assert not all_met([missing, reported("nothing", None)])


def test_table_and_record_hold_the_same(tmp_path):
    text = write_rounds(tmp_path / "new" / "bench", "a machine\n", rounds((300, 100), (500, 100)), [FASTER])
    assert (tmp_path / "new" / "bench.md").read_text() == text
    assert text.startswith("a machine\n\nRounds: 2.")
    assert "| c/ours | 400 (300 to 500) |" in text
    content = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert content["results"][0]["found"] == {"median": 4, "low": 3, "high": 5}


def test_a_program_prints_its_results_and_writes_a_record(tmp_path, capsys):
    options = argparse.Namespace(program="x", run=print, output=tmp_path / "sub" / "x.json", seed=7)
    assert conclude(options, [at_most("lost", 0, 0), reported("time", 2.5)], {"curve": [1]}) == 0
    assert "x: PASS" in capsys.readouterr().out
    record = json.loads(options.output.read_text())
    assert (record["passed"], record["options"], record["curve"]) == (True, {"program": "x", "seed": 7}, [1])
    assert record["results"][1] == {"what": "time", "found": 2.5, "limit": None}
    assert conclude(options, [Result("lost", Spread.of([1.0]), 0, at_most=True)], {}) == 1
    assert "x: FAIL" in capsys.readouterr().out
