"""The parser of the Open Inference Protocol against everything that is not the protocol, or only nearly."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from seeds import IMAGES, inference_requests
from strategies import ATTACK, DAMAGE, INFERENCE, JSON, damaged, peak_memory
from targets import infer

from photoz.errors import InvalidInput, MalformedInput, PhotozError, TooLarge
from photoz.protocol.open_inference import decode_request, encode_request, read_header_length
from photoz.protocol.tensors import NUMBERS, Tensor

BODIES = list(inference_requests())
MB = 2**20


@pytest.mark.parametrize(("body", "header_length"), BODIES)
def test_the_seeds_are_well_formed(body, header_length):
    assert np.isfinite(infer(body, header_length).images.images).all()


@ATTACK
@given(st.sampled_from(BODIES), st.fixed_dictionaries(DAMAGE), st.sampled_from([0, 0, 0, -1, 1, 8, 10**6]))
def test_no_damage_to_a_request_raises_anything_but_a_refusal(request_, damage, off):
    body, header_length = request_
    with contextlib.suppress(PhotozError):
        infer(damaged(body, **damage), None if header_length is None else header_length + off)


@ATTACK
@given(INFERENCE, st.binary(max_size=40), st.booleans())
def test_no_json_of_the_right_fields_raises_anything_but_a_refusal(content, behind, is_binary):
    header = json.dumps(content).encode()
    with contextlib.suppress(PhotozError):
        infer(header + behind if is_binary else header, len(header) if is_binary else None)


@ATTACK
@given(JSON)
def test_no_other_json_raises_anything_but_a_refusal(content):
    with contextlib.suppress(PhotozError):
        infer(json.dumps(content).encode())


@ATTACK
@given(st.binary(max_size=60), st.one_of(st.none(), st.integers(-1, 70)))
def test_no_bytes_raise_anything_but_a_refusal(body, header_length):
    with contextlib.suppress(PhotozError):
        infer(body, header_length)


@ATTACK
@given(st.text(max_size=30))
def test_no_header_raises_anything_but_a_refusal(text):
    with contextlib.suppress(PhotozError):
        assert read_header_length(text) == int(text)


SMALL_SHAPES = numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMERIC = st.sampled_from(sorted(NUMBERS)).flatmap(
    lambda name: numpy_strategies.arrays(NUMBERS[name], SMALL_SHAPES).map(lambda array: (name, array))
)
TEXTS = numpy_strategies.arrays(object, SMALL_SHAPES, elements=st.text(st.characters(codec="utf-8"), max_size=5))


@ATTACK
@given(st.one_of(NUMERIC, TEXTS.map(lambda array: ("BYTES", array))), st.booleans())
def test_what_is_written_is_read_again(tensor, binary):
    datatype, array = tensor
    message = encode_request([Tensor("t", datatype, array)], binary=binary)
    again = decode_request(message.body, message.header_length).inputs["t"].array
    expected = array if binary or array.dtype.kind != "f" else np.where(np.isfinite(array), array, np.nan)
    assert again.shape == array.shape  # JSON has no infinity: what is not finite is null there, and NaN again
    np.testing.assert_array_equal(again, expected)


def tensor(**changes):
    described = {"name": "images", "datatype": "FP32", "shape": [1], "data": [1]} | changes
    return json.dumps({"inputs": [described]}).encode()


def text_bytes(*lengths, shape):
    """Describe texts by their lengths, and put so many bytes behind that each has one byte."""
    behind = b"".join(struct.pack("<I", length) + b"a" for length in lengths)
    size = {"binary_data_size": len(behind)}
    entry = {"name": "object_id", "datatype": "BYTES", "shape": shape, "parameters": size}
    header = json.dumps({"inputs": [entry]}).encode()
    return header + behind, len(header)


REFUSED = {
    "deep": (b"[" * 100_000, "recursion limit"),
    "deep in an object": (b'{"inputs":' * 100_000, "recursion limit"),
    "deep data": (
        tensor(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 150 + b"]" * 150),
        "expected data of shape",
    ),
    "a million digits": (tensor().replace(b"[1]", b"[" + b"9" * 10**6 + b"]"), "number out of range"),
    "lone surrogate": (tensor(name="\ud800"), "not JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', "not JSON"),
    "NaN as a length": (tensor(shape=[float("nan")]), "list of lengths"),
    "truth as a length": (tensor(shape=[True]), "list of lengths"),
    "negative": (tensor(shape=[-1, -1]), "list of lengths"),
    "lengths that overflow": (tensor(shape=[2**32, 2**32]), "expected data of shape"),
    "empty, and longer than an array may be": (tensor(shape=[2**39, 2**39, 0], data=[]), "no array has shape"),
    "nine dimensions": (tensor(shape=[1] * 9), "list of lengths"),
    "a whole number beyond every float": (tensor(data=[10**400]), "too large"),
    "infinite size": (
        tensor().replace(b'"data": [1]', b'"parameters": {"binary_data_size": 1e999}'),
        "number of bytes",
    ),
    "a key twice": (b'{"inputs": [], "inputs": 1}', "expected inputs as a list"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_traps_are_refused_with_the_reason(body, reason):
    with pytest.raises(MalformedInput, match=reason):
        infer(body)


def test_texts_that_lie_about_their_lengths_are_refused():
    for lengths, shape, reason in [
        ((2**32 - 1,), [1], "element 0 is longer"),
        ((1, 2), [2], "element 1 is longer"),
        ((1, 1), [1], "expected 1 elements, got 5 bytes more"),
        ((1,), [2], "has 2 elements, got 1"),
    ]:
        body, header_length = text_bytes(*lengths, shape=shape)
        with pytest.raises(MalformedInput, match=reason):
            infer(body, header_length)


def test_limits_hold_before_anything_is_read():
    with pytest.raises(TooLarge, match=r"at most 10 bytes of JSON, got 100,000"):
        decode_request(b"[" * 100_000, max_json=10)
    body, header_length = text_bytes(*[1] * 17, shape=[17])
    with pytest.raises(TooLarge, match=r"at most 16 texts, got shape \(17,\)"):
        decode_request(body, header_length, max_texts=16)
    assert len(decode_request(body, header_length, max_json=header_length, max_texts=17).inputs) == 1


LONG = {
    "a name that is a list": tensor(name=[[]] * 100_000),
    "a length of a megabyte": tensor(shape=["x" * MB]),
    "a hundred thousand inputs": json.dumps(
        {"inputs": [{"name": f"{i}", "datatype": "FP32", "shape": [0], "data": []} for i in range(20_000)]}
    ).encode(),
}


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_a_refusal_does_not_repeat_the_request(body):
    with pytest.raises((MalformedInput, InvalidInput)) as refusal:
        infer(body)
    assert len(str(refusal.value)) < 500


# An empty list of Python takes 56 bytes and its place in another 8, for three bytes of JSON.
UNITS = {"numbers": b"0,", "floats": b"1e1,", "empty lists": b"[],", "lists": b"[[0]],", "objects": b'{"":0},'}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_json_takes_no_more_memory_than_its_limit_allows_for(unit):
    body = tensor().replace(b"[1]}", b"[" + (unit * (MB // len(unit)))[:-1] + b"]}")

    def refused():
        with pytest.raises(MalformedInput):
            infer(body)

    assert peak_memory(refused) < 50 * len(body)


def test_binary_tensors_take_no_memory_but_their_own():
    message = encode_request([Tensor.of("images", np.repeat(IMAGES, 5000, axis=0))])
    assert peak_memory(lambda: decode_request(message.body, message.header_length)) < 1.1 * len(message.body)
