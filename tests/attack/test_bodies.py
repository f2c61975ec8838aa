"""Bodies that exhaust memory or the parser: JSON, messages of the Open Inference Protocol, compressed streams."""

import json

import pytest

from photoz.errors import InvalidInput, MalformedInput, TooLarge
from service.compression import COMPRESSORS
from service.formats.json import estimate_memory
from tests.attack.corpus import IMAGES, MB
from tests.attack.fuzz_targets import evaluate, infer, predict_json
from tests.attack.refusals import assert_refused
from tests.service.requests import receive


def repeated(start, unit, end):
    """Repeat a unit until there is a quarter of a MiB of it."""
    return start + (unit * (MB // 4 // len(unit)))[:-1] + end


def one_tensor(**changes):
    tensor = {"name": "images", "datatype": "FP32", "shape": [1], "data": [1]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


HEAD, _, TAIL = one_tensor().rpartition(b"[1]")
TENSORS = [repeated(HEAD + b"[", unit, b"]" + TAIL) for unit in (b"0,", b"1e1,", b"[],", b"[[0]],", b'{"":0},')]
EXPENSIVE = {
    "numbers": repeated(b'{"images":[[[[', b"0,", b"]]]]}"),
    "lists": repeated(b'{"images":[', b"[[[0]]],", b"]}"),
    "empty lists": repeated(b'{"images":[', b"[],", b"]}"),
    "strings for numbers": repeated(b'{"images":[[[[', b'"",', b"]]]]}"),
    "numbers for lists": repeated(b'{"images":[', b"0,", b"]}"),
    "objects for lists": repeated(b'{"images":[', b'{"":0},', b"]}"),
    "strings for ebv": repeated(b'{"images":[],"ebv":[', b'"",', b"]}"),
    "names, the first of them long": repeated(b'{"images":[],"object_id":["' + b"x" * 256 + b'",', b'"",', b"]}"),
    "unknown fields": b'{"images":[],' + b",".join(b'"%x":0' % i for i in range(25_000)) + b"}",
    **{tensor[-25:].decode(): tensor for tensor in TENSORS},
}


@pytest.mark.parametrize("body", EXPENSIVE.values(), ids=EXPENSIVE)
def test_json_takes_at_most_twice_the_reserved_memory(body):
    decode, errors = infer if body in TENSORS else predict_json, (InvalidInput, MalformedInput, TooLarge)
    reserved = len(body) + estimate_memory(body)
    assert_refused(decode, body, "expected|should|permitted", errors, max_memory=2 * reserved)


def test_a_million_keys_take_more_than_a_small_budget():
    # Decoding them would block the interpreter for a second.
    assert estimate_memory(b"{" + b'"a":0,' * 2**20 + b"}") > 128 * MB


def test_an_error_does_not_repeat_the_request():
    # pydantic would write half a kB for each element.
    assert_refused(evaluate, repeated(b'{"z_spec":[', b'"",', b"]}"), r"z_spec\.0: .* got ''$", InvalidInput)
    for body in (b'{"%b": 1}', b'{"images": "%b"}', b'{"images":[],"object_id":["%b"]}'):
        assert_refused(predict_json, body % (b"x" * MB), None, InvalidInput, max_length=300)


@pytest.mark.parametrize("decode", [predict_json, evaluate])
def test_malformed_json_is_refused(decode):
    assert_refused(decode, b"[" * MB, "recursion limit")
    assert_refused(decode, b'{"images":' * MB, "recursion limit")
    assert_refused(decode, b'{"images":[[[[' + b"9" * MB + b"]]]]}", "number out of range")
    assert_refused(decode, b'{"images":"\\ud800"}', "not JSON")
    assert_refused(decode, b"\xff\xfe{\0}\0", "not JSON")


EMPTY = {"datatype": "FP32", "shape": [0], "data": []}
MALFORMED = {
    "deep": b"[" * 100_000,
    "deep in an object": b'{"inputs":' * 100_000,
    "deep data": one_tensor(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 150 + b"]" * 150),
    "a million digits": one_tensor().replace(b"[1]", b"[" + b"9" * 10**6 + b"]"),
    "lone surrogate": one_tensor(name="\ud800"),
    "NaN as a length": one_tensor(shape=[float("nan")]),
    "lengths that overflow": one_tensor(shape=[2**32, 2**32]),
    "empty, and longer than an array may be": one_tensor(shape=[2**39, 2**39, 0], data=[]),
    "infinite size": one_tensor().replace(b'"data": [1]', b'"parameters": {"binary_data_size": 1e999}'),
    "a repeated key": b'{"inputs": [], "inputs": 1}',
    "a list as a name": one_tensor(name=[[]] * 100_000),
    "a length of a megabyte": one_tensor(shape=["x" * MB]),
    "20,000 inputs": json.dumps({"inputs": [{"name": f"{i}", **EMPTY} for i in range(20_000)]}).encode(),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_is_refused_in_a_short_sentence(body):
    assert_refused(infer, body, None, max_length=1000)


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS.items(), ids=COMPRESSORS)
def test_compressed_bombs_truncated_streams_and_trailing_data_are_refused(encoding, compress):
    def unpack(body):
        parts = [body[start : start + 128 * 1024] for start in range(0, len(body), 128 * 1024)]
        headers = {"content_encoding": encoding, "content_length": str(len(body))}
        return receive(*parts, path="/v2/models/toy/infer", **headers).body

    bomb, body = compress(bytes(200 * MB)), compress(IMAGES.tobytes())
    assert_refused(unpack, bomb, "at most 52,428,800 bytes, got more", TooLarge, max_memory=120 * MB)
    assert unpack(body) == IMAGES.tobytes()
    for length in range(1, len(body), 7):
        assert_refused(unpack, body[:length], "ends before|got other bytes")
    for extra in (body, b"\0", bytes(1000)):
        assert_refused(unpack, body + extra, f"expected one {encoding} stream")
