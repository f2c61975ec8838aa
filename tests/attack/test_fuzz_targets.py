"""The fuzz targets on well-formed and mutated inputs: each is decoded or refused, without side effects."""

import io
import sys
import threading
import zipfile
from random import Random

import numpy as np
import pytest

from tests.attack.corpus import EVALUATE_BODIES, IMAGES, INFER_MESSAGES, NPY_FILES, PREDICT_BODIES, SPEC, npz_files
from tests.attack.files import make_npz, npy_bytes
from tests.attack.fuzz_targets import SEEDS, TARGETS, evaluate, infer, predict_file, predict_json, run
from tests.attack.mutations import MUTATORS, mutate_bytes


def test_well_formed_bodies_are_decoded():
    for body in NPY_FILES:
        expected = np.load(io.BytesIO(body)).reshape(-1, *SPEC.shape).astype(np.float32)
        np.testing.assert_array_equal(predict_file(body).images, expected)
    assert [len(infer(message.body, message.header_length)) for message in INFER_MESSAGES] == [2, 2, 1, 1, 1]
    assert [len(predict_json(body)) for body in PREDICT_BODIES] == [2, 1]
    assert [len(evaluate(body).z_spec) for body in EVALUATE_BODIES] == [2, 1]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        cutouts, *labelled = npz_files(method)
        assert len(predict_file(cutouts)) == 2
        assert [len(evaluate(body).z_spec) for body in labelled] == [2, 2]


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_decoded_or_refused(target):
    random, mutate_values = Random(0), MUTATORS.get(target, mutate_bytes)
    for _ in range(1000):
        run(target, mutate_bytes(random, random.choice(SEEDS[target])))
        run(target, mutate_values(random, random.choice(SEEDS[target])) or b"")


FORBIDDEN = ("open", "os.", "shutil", "tempfile", "socket", "urllib", "http", "subprocess", "ctypes")
FORBIDDEN += ("import", "pickle")


def test_decoding_opens_no_file_and_no_connection_and_runs_no_code():
    paths = ("http://127.0.0.1:9/images.npy", "/etc/hostname", "../images", "images")
    archives = [make_npz({name: npy_bytes(IMAGES)}) for name in paths]

    def run_seeds():
        for target, seeds in (*SEEDS.items(), ("file", archives)):
            for seed in seeds:
                run(target, seed)
                run(target, seed[:-9])

    events, recorded = set(), threading.local()  # the hook cannot be removed
    sys.addaudithook(lambda event, _: events.add(event) if hasattr(recorded, "starts") else None)
    run_seeds()  # late imports
    recorded.starts = True
    run_seeds()
    del recorded.starts
    assert "compile" in events  # the literals in the headers of arrays: the hook works
    assert not [event for event in events if event.startswith(FORBIDDEN)]
