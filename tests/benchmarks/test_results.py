"""Ratios, medians, and what the tables say of them."""

import json

import pytest
from benchmarks.wanted import OURS, against_peers

from benchmarks import results
from benchmarks.results import Quantity, Spread, Wanted

FASTER = Wanted("ours / theirs", Quantity("c/ours"), Quantity("c/theirs"), limit=2, goal=3)


def rounds(*pairs):
    return [{"c/ours": {"images_per_s": ours}, "c/theirs": {"images_per_s": theirs}} for ours, theirs in pairs]


def test_ratios_are_taken_within_each_round():
    # The medians of the two sides, 300 and 100, would give 3.
    assert FASTER.found(rounds((100, 100), (300, 150), (800, 80))) == Spread(median=2, low=1, high=10)


def test_rounds_that_lack_a_side_are_left_out():
    assert FASTER.found([*rounds((300, 100)), {"c/ours": {"images_per_s": 1.0}}]) == Spread(3, 3, 3)
    assert FASTER.found([{"c/ours": {"images_per_s": 1.0}}]) is None


def test_a_figure_without_another_is_itself():
    memory = Wanted("memory", Quantity("c/memory", "rss_mb"), None, limit=450, at_most=True)
    assert memory.found([{"c/memory": {"rss_mb": 388.0}}]) == Spread(388, 388, 388)


@pytest.mark.parametrize(("ours", "met"), [(199, "**no**"), (200, "yes"), (299, "yes"), (300, "yes, and the goal")])
def test_what_is_met(ours, met):
    assert results.judgements(rounds((ours, 100)), [FASTER]).splitlines()[-1].endswith(f"| {met} |")


def test_at_most_is_the_other_way_round():
    slower = Wanted("p99 / p50", Quantity("c/ours"), Quantity("c/theirs"), limit=3, at_most=True)
    assert "| yes |" in results.judgements(rounds((300, 100)), [slower])
    assert "| **no** |" in results.judgements(rounds((301, 100)), [slower])


def test_a_figure_without_a_limit_is_reported_and_not_judged():
    table = results.judgements(rounds((50, 100)), [Wanted("cost", Quantity("c/ours"), Quantity("c/theirs"))])
    assert table.splitlines()[-1] == "| cost | 0.50 |  |  |"


def test_what_was_not_measured_is_not_met():
    assert results.judgements([], [FASTER]).splitlines()[-1] == (
        "| ours / theirs | not measured | at least 2; go for 3 |  |"
    )


def test_both_files_say_the_same(tmp_path):
    text = results.write(tmp_path / "new" / "bench", "a machine\n", rounds((300, 100), (500, 100)), [FASTER])
    assert (tmp_path / "new" / "bench.md").read_text() == text
    assert text.startswith("a machine\n\nRounds: 2.")
    assert "| c/ours | 400 (300 to 500) |" in text
    content = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert content["wanted"][0]["found"] == {"median": 4, "low": 3, "high": 5}
    assert len(content["rounds"]) == 2


def test_every_wanted_figure_has_a_sentence_of_its_own():
    wanted = [*OURS, *against_peers("compact"), *against_peers("inception")]
    assert len({one.what for one in wanted}) == len(wanted)
    assert against_peers("another") != ()
