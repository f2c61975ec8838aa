"""JSON bodies that exhaust memory or the parser."""

import pytest

from photoz.errors import InvalidInput, TooLarge
from service.formats.json import estimate_memory
from tests.attack.corpus import MB
from tests.attack.fuzz_targets import evaluate, predict_json
from tests.attack.refusals import assert_refused


def repeated(start: bytes, unit: bytes, end: bytes) -> bytes:
    """Repeat a unit until there is 1 MiB of it."""
    return start + (unit * (MB // len(unit)))[:-1] + end


EXPENSIVE = {
    "numbers": repeated(b'{"images":[[[[', b"0,", b"]]]]}"),
    "lists": repeated(b'{"images":[', b"[[[0]]],", b"]}"),
    "empty lists": repeated(b'{"images":[', b"[],", b"]}"),
    "strings for numbers": repeated(b'{"images":[[[[', b'"",', b"]]]]}"),
    "numbers for lists": repeated(b'{"images":[', b"0,", b"]}"),
    "objects for lists": repeated(b'{"images":[', b'{"":0},', b"]}"),
    "strings for ebv": repeated(b'{"images":[],"ebv":[', b'"",', b"]}"),
    "names, the first of them long": repeated(b'{"images":[],"object_id":["' + b"x" * 256 + b'",', b'"",', b"]}"),
    "unknown fields": b'{"images":[],' + b",".join(b'"%x":0' % i for i in range(100_000)) + b"}",
}


@pytest.mark.parametrize("body", EXPENSIVE.values(), ids=EXPENSIVE)
def test_json_takes_at_most_twice_the_reserved_memory(body):
    reserved = len(body) + estimate_memory(body)
    assert_refused(predict_json, body, "expected|should|permitted", (InvalidInput, TooLarge), max_memory=2 * reserved)


def test_only_the_first_invalid_element_is_reported():
    """pydantic would write half a kB for each."""
    assert_refused(evaluate, repeated(b'{"z_spec":[', b'"",', b"]}"), r"z_spec\.0: .* got ''$", InvalidInput)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * MB, "recursion limit"),
        (b'{"images":' * MB, "recursion limit"),
        (b'{"images":[[[[' + b"9" * MB + b"]]]]}", "number out of range"),
        (b'{"images":"\\ud800"}', "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
    ],
)
@pytest.mark.parametrize("decode", [predict_json, evaluate])
def test_malformed_json_is_refused(decode, body, reason):
    assert_refused(decode, body, reason)


@pytest.mark.parametrize("body", [b'{"%b": 1}', b'{"images": "%b"}', b'{"images":[],"object_id":["%b"]}'])
def test_an_error_does_not_repeat_the_request(body):
    assert_refused(predict_json, body % (b"x" * MB), None, InvalidInput, max_length=300)
