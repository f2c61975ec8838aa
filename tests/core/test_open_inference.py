"""Round trips of messages, and bytes written by hand after the protocol's documents."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from photoz.errors import InvalidInput, MalformedInput, TooLarge
from photoz.protocol.open_inference import (
    ALIGNMENT,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_header_length,
)
from photoz.protocol.tensors import NUMBERS, Tensor


def request(*inputs, behind=b"", **others):
    """Build a request by hand; without bytes after the JSON it has no header length."""
    header = json.dumps({"inputs": inputs} | others).encode()
    return decode_request(header + behind, len(header) if behind else None)


def image(data=None, **changes):
    """Describe a tensor of shape (2, 2), in JSON or as bytes after it."""
    how = {"parameters": {"binary_data_size": 16}} if data is None else {"data": data}
    return {"name": "images", "datatype": "FP32", "shape": [2, 2]} | how | changes


FOUR = struct.pack("<4f", 1.0, 2.5, -3.0, 4.0)


def test_hand_written_bytes_are_decoded():
    behind = FOUR + struct.pack("<I", 3) + b"NGC" + struct.pack("<I", 2) + "é".encode()
    names = {"name": "names", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 13}}
    decoded = request(image(), names, behind=behind, id="7", outputs=[{"name": "z"}])
    np.testing.assert_array_equal(decoded.inputs["images"].array, [[1.0, 2.5], [-3.0, 4.0]])
    assert decoded.inputs["names"].array.tolist() == ["NGC", "é"]
    assert decoded.request_id == "7"
    assert [(output.name, output.binary) for output in decoded.outputs] == [("z", False)]


@pytest.mark.parametrize("data", [[1, 2.5, None, 4], [[1, 2.5], [None, 4]]])
def test_json_data_may_be_nested_or_flat_and_null_is_nan(data):
    array = request(image(data)).inputs["images"].array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[1, 2.5], [np.nan, 4]])


def test_unaligned_numbers_are_decoded_and_aligned():
    for spaces in range(ALIGNMENT):
        header = json.dumps({"inputs": [image()]}).encode() + b" " * spaces
        array = decode_request(header + FOUR, len(header)).inputs["images"].array
        assert array.tobytes() == FOUR
        assert array.flags.aligned


def test_large_tensors_are_not_copied():
    pixels = np.ones((3, 8, 8, 5), np.float32)
    message = encode_request([Tensor.of("images", pixels)])
    assert np.shares_memory(np.frombuffer(message.parts[1], np.uint8), pixels)
    body = message.body
    array = decode_request(body, message.header_length).inputs["images"].array
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


numbers = st.sampled_from(list(NUMBERS.values())).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)
texts = arrays.arrays(object, arrays.array_shapes(max_dims=2, min_side=0), elements=st.text(max_size=5), fill=None)


@given(array=st.one_of(numbers, texts), binary=st.booleans())
def test_request_round_trip(array, binary):
    infinite = array.dtype.kind == "f" and np.isinf(array).any()
    message = encode_request([Tensor.of("x", array)], ["y"], binary=binary, request_id="é")
    decoded = decode_request(message.body, message.header_length)
    expected = np.where(np.isinf(array), np.nan, array).astype(array.dtype) if infinite and not binary else array
    assert decoded.inputs["x"].array.dtype == array.dtype
    np.testing.assert_array_equal(decoded.inputs["x"].array, expected)
    assert decoded.request_id == "é"
    assert decoded.outputs[0].binary == binary


@given(array=st.one_of(numbers, texts), binary=st.booleans())
def test_response_round_trip(array, binary):
    tensors = [(Tensor.of("x", array), binary), (Tensor.of("y", np.array([1.5])), not binary)]
    message = encode_response(tensors, model_name="photoz", model_version="1.2", request_id="7")
    decoded = decode_response(message.body, message.header_length)
    assert (decoded.model_name, decoded.model_version, decoded.request_id) == ("photoz", "1.2", "7")
    assert list(decoded.outputs) == ["x", "y"]
    assert decoded.outputs["x"].array.shape == array.shape
    assert decoded.outputs["y"].array.tolist() == [1.5]


def test_byte_order_and_layout_are_those_of_the_protocol():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    message = encode_request([Tensor.of("x", array)])
    assert json.loads(message.parts[0])["inputs"][0]["datatype"] == "FP32"
    assert bytes(message.parts[1]) == struct.pack("<6f", 0, 3, 1, 4, 2, 5)


def test_nan_is_null_in_json():
    message = encode_response([(Tensor.of("x", np.array([np.nan, 0.5])), False)], model_name="m", model_version="1")
    assert message.header_length is None
    assert json.loads(message.body)["outputs"][0]["data"] == [None, 0.5]


def test_all_outputs_are_the_default():
    for outputs in ({}, {"outputs": []}, {"outputs": None}):
        decoded = request(image([1, 2, 3, 4]), **outputs)
        assert decoded.outputs is None
        assert decoded.binary is False
    assert request(image([1, 2, 3, 4]), parameters={"binary_data_output": True}).binary is True


def test_binary_data_of_an_output_overrides_that_of_the_request():
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    decoded = request(image([1, 2, 3, 4]), outputs=outputs, parameters={"binary_data_output": True})
    assert [output.binary for output in decoded.outputs] == [True, False]


def test_parameters_of_other_extensions_are_ignored():
    parameters = {"sequence_id": 3, "priority": 1, "timeout": 100}
    assert request(image([1, 2, 3, 4], parameters={"unit": "nanomaggy"}), parameters=parameters).inputs


def test_header_length_is_a_number_of_bytes():
    assert [read_header_length(text) for text in (None, "0", "12")] == [None, 0, 12]
    for text in ("", "-1", "²", "1" * 20, "x" * 50):
        with pytest.raises(MalformedInput, match=f"as a number of bytes, got '{text[:40]}'$"):
            read_header_length(text)


@pytest.mark.parametrize("header_length", [0, 10**6])
def test_header_length_beyond_the_body_is_malformed(header_length):
    with pytest.raises(MalformedInput, match=f"between 1 and 14, the length of the body, got {header_length}"):
        decode_request(b'{"inputs": []}', header_length)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 10**5, FOUR])
def test_body_that_is_not_json_is_malformed(body):
    with pytest.raises(MalformedInput, match="not JSON"):
        decode_request(body)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], r"^the JSON: input should be a valid dictionary, got \[\]$"),
        ({}, "^inputs: field required$"),
        ({"inputs": [3]}, r"^inputs\.0: input should be a valid dictionary, got 3$"),
        ({"inputs": [{"name": "a" * 257}]}, r"^inputs\.0\.name: string should have at most 256 characters, got 'aaa"),
        ({"inputs": [], "id": 3}, "^id: input should be a valid string, got 3$"),
        ({"inputs": [], "parameters": []}, r"^parameters: input should be a valid dictionary, got \[\]$"),
        (
            {"inputs": [], "parameters": {"binary_data_output": 1}},
            r"binary_data_output: input should be a valid boolean",
        ),
        ({"inputs": [], "outputs": "all"}, "^outputs: input should be a valid list, got 'all'$"),
        ({"inputs": [], "outputs": [{}]}, r"^outputs\.0\.name: field required$"),
        ({"inputs": [], "outputs": [{"name": "a"}, {"name": "a"}]}, "^a is given twice; expected each tensor once$"),
        ({"inputs": [], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "valid boolean, got 1"),
        ({"inputs": [], "outputs": [{"name": "a", "parameters": {"classification": 1}}]}, "is not supported"),
        ({"inputs": [], "outputs": [{"name": "a", "parameters": {"shared_memory_region": "m"}}]}, "is not supported"),
        ({"inputs": [image([1] * 4, name=str(i)) for i in range(65)]}, "at most 64 items"),
    ],
)
def test_json_against_the_protocol_is_malformed(content, words):
    with pytest.raises(MalformedInput, match=words):
        decode_request(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (image([1] * 4, name=None), r"inputs\.0\.name: input should be a valid string, got None"),
        (image([1] * 4, datatype="BF16"), "datatype: input should be 'FP16', .* or 'BYTES', got 'BF16'"),
        (image([1] * 4, datatype=[]), r"datatype: .* got \[\]"),
        (image([1] * 4, shape=4), "shape: input should be a valid list, got 4"),
        (image([1] * 4, shape=[-1, 4]), r"shape\.0: input should be greater than or equal to 0, got -1"),
        (image([1] * 4, shape=[True, 4]), r"shape\.0: input should be a valid integer, got True"),
        (image([1] * 4, shape=[4.0]), r"shape\.0: input should be a valid integer, got 4.0"),
        (image([1] * 4, shape=[2**40]), r"shape\.0: input should be less than"),
        (image([1] * 4, shape=[2**40 - 1]), r"expected data of shape \(1099511627775,\)"),
        (image([1] * 4, shape=[1] * 50), "shape: list should have at most 8 items"),
        (image([1] * 3), r"expected data of shape \(2, 2\), nested or flat, got \(3,\)"),
        (image([[1, 2, 3, 4]]), r"got \(1, 4\)"),
        (image([[1, 2], [3]]), "regular array"),
        (image([[1, 2], 3, 4]), "nested or flat"),
        (image([[1], [2], [[3], 4], [5]], shape=[4, 1]), "regular array"),
        (image("1234"), "data as a list, got a str"),
        (image(None, parameters={}), "images: expected either data, or binary_data_size"),
        (image([1] * 4, parameters={"binary_data_size": 16}), "images: expected either data, or binary_data_size"),
        (image(None, parameters={"binary_data_size": "16"}), "binary_data_size: input should be a valid integer"),
        (
            image(None, parameters={"binary_data_size": -1}),
            "binary_data_size: input should be greater than or equal to 0",
        ),
        (image(None, parameters=[]), "parameters: input should be a valid dictionary"),
        (image(), "images: expected 16 bytes after the JSON, got 0"),
        (image([1, 2, 3, "4"]), "numbers or null as data, got a str"),
        (image([1, 2, 3, True]), "numbers or null as data, got a bool"),
        (image([1, 2, 3, 10**400]), "expected FP32: int too large"),
        (image([1, 2, 3, 4.5], datatype="INT32"), "whole numbers as data, got a float"),
        (image([1, 2, 3, None], datatype="INT32"), "whole numbers as data, got a NoneType"),
        (image([1, 2, 3, 256], datatype="UINT8"), "expected UINT8, 0 to 255"),
        (image([1, 2, 3, 4], datatype="BYTES"), "text as data, got a int"),
    ],
)
def test_tensor_against_the_protocol_is_malformed(tensor, words):
    with pytest.raises(MalformedInput, match=words):
        request(tensor)


@pytest.mark.parametrize(
    ("tensor", "behind", "words"),
    [
        (image(), FOUR[:-1], "images: expected 16 bytes after the JSON, got 15"),
        (image(), FOUR + b"!", "expected 16 bytes after the JSON, as binary_data_size says, got 17"),
        (image(datatype="FP64"), FOUR, r"FP64 of shape \(2, 2\) is 32 bytes, got 16"),
        (image(shape=[2**39] * 8), FOUR, "bytes, got 16"),
        (image(datatype="BYTES"), struct.pack("<I", 13) + b"x" * 12, "element 0 is longer than the remaining bytes"),
        (image(datatype="BYTES"), struct.pack("<I", 10) + b"x" * 12, "length of element 1 in four bytes"),
        (image(datatype="BYTES"), struct.pack("<I", 12) + b"\xff" * 12, "expected UTF-8 text"),
        (image(datatype="BYTES"), struct.pack("<I", 12) + b"x" * 12, r"shape \(2, 2\) has 4 elements, got 1"),
        (image(datatype="BYTES", shape=[2, 1]), bytes(16), "images: expected 2 elements, got 8 bytes more"),
    ],
)
def test_bytes_that_disagree_with_the_json_are_malformed(tensor, behind, words):
    with pytest.raises(MalformedInput, match=words):
        request(tensor, behind=behind)


def test_missing_bytes_of_a_later_tensor_are_counted():
    with pytest.raises(MalformedInput, match="again: expected 16 bytes after the JSON, got 15"):
        request(image(), image(name="again"), behind=FOUR + FOUR[:-1])


def test_limit_of_texts():
    body = json.dumps({"inputs": [image(["a"] * 4, datatype="BYTES")]}).encode()
    assert decode_request(body, max_texts=4).inputs["images"].array.tolist() == [["a", "a"]] * 2
    with pytest.raises(TooLarge, match="expected at most"):
        decode_request(body, max_texts=3)


def test_empty_array_beyond_numpy_is_malformed():
    with pytest.raises(MalformedInput, match="no array has shape"):
        request(image([], shape=[0, 2**39, 2**39, 2**39]))


def test_repeated_tensor_is_malformed():
    with pytest.raises(MalformedInput, match="images is given twice"):
        request(image([1] * 4), image([1] * 4))


@pytest.mark.parametrize("dtype", ["?", "c8", "M8[s]"])
def test_other_dtypes_have_no_datatype(dtype):
    with pytest.raises(InvalidInput, match="expected x as one of FP16, .* or as text"):
        Tensor.of("x", np.zeros(3, dtype))
