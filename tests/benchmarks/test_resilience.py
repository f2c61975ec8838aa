"""Whether the resilience programs notice faults: each is shown some."""

import contextlib
import json
import pickle
import shutil

import numpy as np
import pytest

from benchmarks.harness.http_client import Reply
from benchmarks.harness.results import all_met
from benchmarks.resilience import __main__, rollout
from benchmarks.resilience.clients import Answer, Failure
from benchmarks.resilience.known_answers import Reference, WrongAnswer
from benchmarks.resilience.rollout import Record, Rollout
from photoz.protocol import open_inference
from photoz.protocol.tensors import Tensor
from tests.attack.sieges import HOLDING, WHOLE

REFERENCE = Reference("/v2", np.random.default_rng(0).random((64, 180), np.float32), np.linspace(0, 1, 64))
RIGHT = [62, 63, 0, 1]


@pytest.mark.parametrize(
    ("rows", "off", "status"),
    [
        *[(RIGHT, 3e-7, 200), (RIGHT, 2e-6, 200), (RIGHT, np.nan, 200), (RIGHT, 0.0, 500)],  # only the first is right
        *[(RIGHT[:3], 0.0, 200), ([*RIGHT, 1], 0.0, 200), ([62, 63, 1, 0], 0.0, 200)],  # missing, doubled, exchanged
    ],
)
def test_a_wrong_answer_is_noticed(rows, off, status):
    columns = {"pdf": REFERENCE.pdf[rows], "z_mean": REFERENCE.z_mean[rows] + off}
    outputs = [(Tensor.of(name, values), True) for name, values in columns.items()]
    message = open_inference.encode_response(outputs, model_name="photoz", model_version="1")
    reply = Reply(status, {open_inference.HEADER_LENGTH: str(message.header_length)}, bytes(message.body))
    with contextlib.nullcontext() if off == 3e-7 else pytest.raises(WrongAnswer):
        assert REFERENCE.infer(4, 62).check(reply) == pytest.approx(off)


def is_good(spoil=lambda record: None) -> bool:
    """Whether two roll-outs that meet all thresholds still do when their record is changed."""
    record = Record(rollouts=[Rollout(*"ab", 1.0, 2.0, 3.0, 1.0, 0), Rollout(*"ba", 5.0, 6.0, 7.0, 1.0, 0)])
    for old, new, at in (("a", "b", 0.0), ("b", "a", 4.0)):
        record.log.answers += [Answer(at + 1.5, at + 2.5, kind, old) for kind in ("infer-1000", "plot", "livez")]
        record.log.answers.append(Answer(at + 3.5, at + 3.6, "infer-1", new))
    record.sdk.rows = 7
    spoil(record)
    return all_met(rollout.results_of(record))


def test_faults_of_a_roll_out_are_noticed():
    assert is_good()
    bad = ["lost_kept", "lost_fresh", "lost_late", "cut", "refused", "wrong", "unavailable", "busy"]
    for failure in (Failure(1.0, outcome, "") for outcome in [*bad, "crossed"]):
        assert is_good(lambda record, failure=failure: record.log.failures.append(failure)) == (
            failure.outcome == "crossed"
        )
    for name, value in (("raised", ["gone"]), ("missing", 1), ("doubled", 1), ("wrong", 1)):
        assert not is_good(lambda record, name=name, value=value: setattr(record.sdk, name, value))
    for code in (1, -9, None):
        assert not is_good(lambda record, code=code: setattr(record.rollouts[1], "exit_code", code))


def test_sieges_can_be_sent_to_the_process_that_attacks():
    assert pickle.loads(pickle.dumps(HOLDING | WHOLE)) == HOLDING | WHOLE


@pytest.mark.acceptance
@pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs HAProxy")
def test_a_roll_out_of_the_real_service_loses_nothing(tmp_path, bundle_path, capsys):
    output = tmp_path / "rollout.json"
    options = ["--rollouts=1", "--calm=3", "--capacity-seconds=1", "--probe=0.5", "--propagation=0.2"]
    parsed = __main__.parse(["rollout", f"--bundle={bundle_path}", f"--output={output}", *options])
    assert rollout.run(parsed) == 0, capsys.readouterr().out
    assert [found["new"].endswith("-next") for found in json.loads(output.read_text())["rollouts"]] == [True, False]
