"""Malicious messages of the Open Inference Protocol."""

import json

import numpy as np
import pytest

from photoz.errors import TooLarge
from photoz.protocol.open_inference import decode_request, encode_request
from photoz.protocol.tensors import Tensor
from service.formats.json import estimate_memory
from tests.attack.corpus import IMAGES, MB
from tests.attack.fuzz_targets import infer
from tests.attack.refusals import assert_refused, peak_memory


def one_tensor(**changes):
    tensor = {"name": "images", "datatype": "FP32", "shape": [1], "data": [1]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


EMPTY = {"datatype": "FP32", "shape": [0], "data": []}
DEEP_DATA = one_tensor(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 150 + b"]" * 150)
MALFORMED = {
    "deep": b"[" * 100_000,
    "deep in an object": b'{"inputs":' * 100_000,
    "deep data": DEEP_DATA,
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


def test_limit_of_texts_is_checked_before_decoding():
    message = encode_request([Tensor.of("object_id", np.array(["a"] * 17))])
    body, header_length = message.body, message.header_length
    with pytest.raises(TooLarge, match=r"at most 16 texts, got shape \(17,\)"):
        decode_request(body, header_length, max_texts=16)
    assert len(decode_request(body, header_length, max_texts=17).inputs) == 1


@pytest.mark.parametrize("unit", [b"0,", b"1e1,", b"[],", b"[[0]],", b'{"":0},'])
def test_json_takes_at_most_twice_the_reserved_memory(unit):
    body = one_tensor().replace(b"[1]}", b"[" + (unit * (MB // len(unit)))[:-1] + b"]}")
    assert_refused(infer, body, None, max_memory=2 * (len(body) + estimate_memory(body)))


def test_binary_tensors_take_no_memory_beyond_their_own():
    message = encode_request([Tensor.of("images", np.repeat(IMAGES, 5000, axis=0))])
    assert peak_memory(lambda: decode_request(message.body, message.header_length)) < 1.1 * len(message.body)
