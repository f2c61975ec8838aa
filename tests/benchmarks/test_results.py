"""Medians, limits, and what the tables and records say of them; h2load's figures."""

import argparse
import json
import shutil

import pytest

from benchmarks.harness.h2load import BadLoad, run_h2load
from benchmarks.harness.messages import Body
from benchmarks.harness.results import Result, all_met, at_least, at_most, conclude, reported
from tests.benchmarks.servers import serving


def test_the_median_is_judged_by_the_limit():
    assert at_least("speed", [100, 200, 800], 200).cells == ("speed", "200 (100 to 800)", "at least 200", "yes")
    assert at_least("speed", [100, 199, 800], 200).cells[-1] == "**no**"
    assert at_most("lost", 0, 0).cells == ("lost", "0.00", "at most 0", "yes")
    assert reported("time", 2.5).cells == ("time", "2.50", "", "")
    assert [all_met([at_most("lost", lost, 0), reported("time", 9)]) for lost in (0, 1)] == [True, False]


def test_what_was_not_measured_is_not_met():
    assert at_least("speed", None, 2).cells == ("speed", "not measured", "at least 2", "")
    for missing in (at_least("speed", [], 2), at_most("lost", None, 0), at_most("lost", float("nan"), 0)):
        assert not all_met([missing, reported("nothing", None)])


def test_a_program_prints_its_results_and_writes_a_record(tmp_path, capsys):
    options = argparse.Namespace(program="x", run=print, output=tmp_path / "sub" / "x.json", seed=7)
    assert conclude(options, [at_most("lost", 0, 0), reported("time", [2.5, 3.5])], {"curve": [1]}) == 0
    assert "x: PASS" in capsys.readouterr().out
    record = json.loads(options.output.read_text())
    assert (record["passed"], record["options"], record["curve"]) == (True, {"program": "x", "seed": 7}, [1])
    assert record["results"][1] == {"what": "time", "median": 3.0, "values": [2.5, 3.5], "limit": None}
    assert conclude(options, [Result("lost", (1.0,), 0, at_most=True)], {}) == 1
    assert "x: FAIL" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("h2load"), reason="needs h2load")
def test_h2load_measures_what_is_served_and_refuses_other_answers():
    statuses = iter([200, 429] * 10_000)

    def answer(path):
        return next(statuses), b"x"

    with serving(answer) as port:
        url, body = f"http://127.0.0.1:{port}/", Body(b"content", ("X-A: b",))
        figures = run_h2load(url, body, 4, 1.0, rate=40.0, statuses=(200, 429))
        assert figures["requests"] + figures["refused"] == pytest.approx(40, abs=8)
        assert figures["requests"] == pytest.approx(figures["refused"], abs=5)
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] < 1000
        assert 0 < figures["refused_p99_ms"] < 1000
        with pytest.raises(BadLoad, match="429"):
            run_h2load(url, body, 2, 0.5)
    with pytest.raises(BadLoad):
        run_h2load(url, body, 2, 0.5)
