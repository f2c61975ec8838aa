"""Whether a roll-out that loses requests is noticed."""

import json
import shutil

import pytest

from benchmarks.harness.results import all_met
from benchmarks.resilience import __main__, rollout
from benchmarks.resilience.clients import Answer, Failure
from benchmarks.resilience.rollout import Record, Rollout

needs_haproxy = pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs HAProxy")


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
    record.log.answers = [answer for answer in answers if answer.kind != kind]
    assert not all_met(rollout.results_of(record))
    record.log.answers = [a._replace(label=other[a.label]) if a.kind == kind else a for a in answers]
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
    assert [rollout["new"].endswith("-next") for rollout in rollouts] == [True, False]
