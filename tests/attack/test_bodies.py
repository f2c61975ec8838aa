"""The decoders of JSON bodies and of packed bodies against bombs, lies and damage."""

import contextlib
import gzip
import json
import zlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeds import IMAGES, PDFS, evaluate_bodies, predict_bodies
from strategies import ATTACK, DAMAGE, JSON, NUMBER, TEXT, damaged, filled, peak_memory, refuses
from targets import evaluate, npy, packed, predict_file, predict_json, run

from photoz.errors import InvalidInput, PhotozError, TooLarge
from photoz.protocol.contract import MAX_OBJECT_ID
from service.compression import WINDOWS, decompress

MB = 2**20
BODIES = [*predict_bodies(), *evaluate_bodies()]


def test_the_seeds_are_well_formed():
    assert [len(predict_json(body)) for body in predict_bodies()] == [2, 1]
    assert [len(evaluate(body).z_spec) for body in evaluate_bodies()] == [2, 1]


@ATTACK
@given(st.sampled_from(BODIES), st.fixed_dictionaries(DAMAGE))
def test_no_damage_to_a_json_body_raises_anything_but_a_refusal(body, damage):
    run("json", damaged(body, **damage))


PIXELS = st.lists(st.lists(st.lists(st.lists(NUMBER, max_size=2), max_size=2), max_size=2), max_size=2)
MESSAGES = filled(
    {
        "images": st.one_of(PIXELS, st.just(IMAGES.tolist()), JSON),
        "pdfs": st.one_of(st.just(PDFS.tolist()), st.lists(st.lists(NUMBER, max_size=10), max_size=2)),
        "z_spec": st.lists(st.one_of(st.none(), NUMBER), max_size=3),
        "ebv": st.one_of(NUMBER, st.lists(NUMBER, max_size=3)),
        "object_id": st.lists(TEXT, max_size=3),
        "magnitudes": st.lists(NUMBER, max_size=3),
        "pdf": st.booleans(),
    }
)


@ATTACK
@given(st.one_of(MESSAGES, JSON))
def test_no_json_raises_anything_but_a_refusal(content):
    run("json", json.dumps(content).encode())


def filled_json(start, unit, end, size=MB):
    return start + (unit * (size // len(unit)))[:-1] + end


HUNGRY = {
    "numbers": filled_json(b'{"images":[[[[', b"0,", b"]]]]}"),
    "lists": filled_json(b'{"images":[', b"[[[0]]],", b"]}"),
    "empty lists": filled_json(b'{"images":[', b"[],", b"]}"),
    "texts for numbers": filled_json(b'{"images":[[[[', b'"",', b"]]]]}"),
    "numbers for lists": filled_json(b'{"images":[', b"0,", b"]}"),
    "objects for lists": filled_json(b'{"images":[', b'{"":0},', b"]}"),
    "texts for reddening": filled_json(b'{"images":[],"ebv":[', b'"",', b"]}"),
    "names, the first of them long": filled_json(b'{"images":[],"object_id":["' + b"x" * 256 + b'",', b'"",', b"]}"),
    "unknown fields": b'{"images":[],' + b",".join(b'"%x":0' % i for i in range(100_000)) + b"}",
}


@pytest.mark.parametrize("body", HUNGRY.values(), ids=HUNGRY)
def test_json_takes_no_more_memory_than_its_limit_allows_for(body):
    assert peak_memory(
        lambda: refuses(predict_json, body, "expected|should|permitted", (InvalidInput, TooLarge))
    ) < 80 * len(body)


def test_only_the_first_wrong_element_of_a_list_is_told():
    """pydantic would write half a kB about each of them."""
    refuses(evaluate, filled_json(b'{"z_spec":[', b'"",', b"]}"), r"z_spec\.0: .* got ''$", InvalidInput)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 10**6, "recursion limit"),
        (b'{"images":' * 10**6, "recursion limit"),
        (b'{"images":[[[[' + b"9" * 10**6 + b"]]]]}", "number out of range"),
        (b'{"images":"\\ud800"}', "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
    ],
)
def test_json_that_is_a_trap_is_malformed(body, reason):
    for read in (predict_json, evaluate):
        refuses(read, body, reason)


def test_a_refusal_does_not_repeat_the_request():
    long = b"x" * MB
    for body in (b'{"%b": 1}' % long, b'{"images": "%b"}' % long, b'{"images":[],"object_id":["%b"]}' % long):
        with pytest.raises(InvalidInput) as refusal:
            predict_json(body)
        assert len(str(refusal.value)) < 300
    with pytest.raises(InvalidInput) as refusal:
        predict_file(packed({"x" * 60_000: npy(IMAGES)}))
    assert len(str(refusal.value)) < 300


def test_names_in_json_are_those_that_come_out():
    names = ["x" * MAX_OBJECT_ID, "\0"]
    body = json.dumps({"images": IMAGES.tolist(), "object_id": names}).encode()
    assert predict_json(body).names[0] == names[0]


# Packed bodies

PACK = {"gzip": lambda body: gzip.compress(body, mtime=0), "deflate": zlib.compress}


@ATTACK
@given(st.sampled_from(sorted(WINDOWS)), st.binary(max_size=2000), st.fixed_dictionaries(DAMAGE))
def test_no_damage_to_a_packed_body_raises_anything_but_a_refusal(encoding, plain, damage):
    body = PACK[encoding](plain)
    assert decompress(body, encoding, 2000) == plain
    with contextlib.suppress(PhotozError):
        assert len(decompress(damaged(body, **damage), encoding, 1000)) <= 1000


@pytest.mark.parametrize("encoding", WINDOWS)
def test_a_bomb_is_defused_at_the_limit(encoding):
    body, limit = PACK[encoding](bytes(100 * MB)), 10 * MB
    assert len(body) < MB
    bomb = partial(decompress, encoding=encoding, limit=limit)
    assert peak_memory(lambda: refuses(bomb, body, "at most 10,485,760", TooLarge)) < 2.5 * limit


@pytest.mark.parametrize("encoding", WINDOWS)
def test_every_cut_is_seen(encoding):
    body = PACK[encoding](IMAGES.tobytes())
    for length in range(0, len(body), 7):
        refuses(lambda body: decompress(body, encoding, MB), body[:length], "ends before|got other bytes")


@pytest.mark.parametrize("encoding", WINDOWS)
def test_one_stream_is_one_body(encoding):
    body = PACK[encoding](b"one")
    for more in (body, b"\0", bytes(1000)):
        refuses(lambda body: decompress(body, encoding, MB), body + more, f"expected one {encoding} stream")
