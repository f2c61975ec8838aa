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


def stays_good(spoil) -> bool:
    """Whether a record is still good when it is changed."""
    record = good()
    spoil(record)
    return all_met(rollout.results_of(record))


def test_faults_of_a_roll_out_are_noticed():
    assert stays_good(lambda record: None)
    for outcome in (
        *("lost_kept", "lost_fresh", "lost_late", "cut", "refused"),
        "wrong",
        "unavailable",
        "busy",
        "crossed",
    ):
        failure = Failure(1.0, outcome, "")
        assert stays_good(lambda record, failure=failure: record.log.failures.append(failure)) == (outcome == "crossed")
    for name, value in (("raised", ["gone"]), ("missing", 1), ("doubled", 1), ("wrong", 1)):
        assert not stays_good(lambda record, name=name, value=value: setattr(record.sdk, name, value))
    for code in (1, -9, None):
        assert not stays_good(lambda record, code=code: setattr(record.rollouts[1], "exit_code", code))


@pytest.mark.parametrize("kind", ["infer-1000", "plot", "infer-1"])
def test_answers_that_are_missing_or_from_the_other_version_are_noticed(kind):
    answers, other = good().log.answers, {"a": "b", "b": "a"}
    missing = [answer for answer in answers if answer.kind != kind]
    swapped = [a._replace(label=other[a.label]) if a.kind == kind else a for a in answers]
    for changed in (missing, swapped):
        assert not stays_good(lambda record, changed=changed: setattr(record.log, "answers", changed))


@pytest.mark.slow
@needs_haproxy
def test_a_roll_out_of_the_real_service_loses_nothing(tmp_path, bundle_path, capsys):
    output = tmp_path / "rollout.json"
    options = ["--rollouts=1", "--calm=3", "--capacity-seconds=1", "--probe=0.5", "--propagation=0.2"]
    parsed = __main__.parse(["rollout", f"--bundle={bundle_path}", f"--output={output}", *options])
    assert rollout.run(parsed) == 0, capsys.readouterr().out
    rollouts = json.loads(output.read_text())["rollouts"]
    assert [rollout["new"].endswith("-next") for rollout in rollouts] == [True, False]
