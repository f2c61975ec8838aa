"""The fuzz targets on well-formed and mutated inputs: each is decoded or refused, without side effects."""

import io
import json
import subprocess
import sys
import zipfile
from random import Random

import numpy as np
import pytest

from tests.attack.corpus import (
    EVALUATE_BODIES,
    INFER_MESSAGES,
    PREDICT_BODIES,
    ROOT,
    SPEC,
    npy_files,
    npz_files,
)
from tests.attack.fuzz_targets import SEEDS, TARGETS, evaluate, infer, predict_file, predict_json, run
from tests.attack.malformed_inputs import mutate_bytes
from tests.attack.mutations import MUTATORS


@pytest.mark.parametrize("body", npy_files())
def test_npy_files_are_decoded_as_numpy_does(body):
    expected = np.load(io.BytesIO(body)).reshape(-1, *SPEC.shape).astype(np.float32)
    np.testing.assert_array_equal(predict_file(body).images, expected)


def test_well_formed_bodies_are_decoded():
    assert [len(infer(message.body, message.header_length)) for message in INFER_MESSAGES] == [2, 2, 1, 1, 1]
    assert [len(predict_json(body)) for body in PREDICT_BODIES] == [2, 1]
    assert [len(evaluate(body).z_spec) for body in EVALUATE_BODIES] == [2, 1]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        cutouts, *labelled = npz_files(method)
        assert len(predict_file(cutouts)) == 2
        assert [len(evaluate(body).z_spec) for body in labelled] == [2, 2]


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_decoded_or_refused(target):
    random, seeds = Random(0), SEEDS[target]
    mutate_values = MUTATORS.get(target, mutate_bytes)
    with_values = [seed for seed in seeds if mutate_values(random, seed)]
    for _ in range(1000):
        run(target, mutate_bytes(random, random.choice(seeds)))
        run(target, mutate_values(random, random.choice(with_values)) or b"")


# In a process of its own: an audit hook cannot be removed.
AUDITED = """
import json, sys
from tests.attack.corpus import IMAGES
from tests.attack.files import make_npz, npy_bytes
from tests.attack.fuzz_targets import SEEDS, run

def run_seeds():
    for target, seeds in SEEDS.items():
        for seed in seeds:
            run(target, seed)
            run(target, seed[:-9])
    for name in ("http://127.0.0.1:9/images.npy", "/etc/hostname", "../images", "images"):
        run("file", b"-" + make_npz({name: npy_bytes(IMAGES)}))

run_seeds()  # late imports
events = []
sys.addaudithook(lambda event, arguments: events.append(event))
run_seeds()
print(json.dumps(events))
"""
FILES_AND_CONNECTIONS = ("open", "os.", "shutil", "tempfile", "socket", "urllib", "http")
CODE = ("subprocess", "ctypes", "import", "pickle")


def test_decoding_opens_no_file_and_no_connection_and_runs_no_code():
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AUDITED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    events = json.loads(done.stdout)
    assert "compile" in events  # the literals in the headers of arrays: the hook works
    assert not [event for event in events if event.startswith(FILES_AND_CONNECTIONS + CODE)]
