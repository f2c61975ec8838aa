"""Messages of the Open Inference Protocol, after its documents, and limits of the JSON contract."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from photoz.errors import InvalidInput, MalformedInput, TooLarge
from photoz.protocol.contract import EvaluateOptions, EvaluateRequest, PredictRequest, SkyRequest
from photoz.protocol.open_inference import (
    DecodedRequest,
    RequestedOutput,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_header_length,
)
from photoz.protocol.tensors import NUMBERS, Tensor

FOUR = struct.pack("<4f", 1.0, 2.5, -3.0, 4.0)


def request(*inputs, behind=b"", **others):
    """Build a request by hand; without bytes after the JSON it has no header length."""
    header = json.dumps({"inputs": inputs} | others).encode()
    return decode_request(header + behind, len(header) if behind else None)


def image(data=None, **changes):
    """Describe a tensor of shape (2, 2), in JSON or as bytes after it."""
    how = {"parameters": {"binary_data_size": 16}} if data is None else {"data": data}
    return {"name": "images", "datatype": "FP32", "shape": [2, 2]} | how | changes


def texts(*encoded):
    return b"".join(struct.pack("<I", length) + text for length, text in encoded)


WHOLE = image([1, 2, 3, 4])


def test_hand_written_bytes_and_json_are_decoded():
    behind = FOUR + texts((3, b"NGC"), (2, "é".encode()))
    names = {"name": "names", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 13}}
    decoded = request(image(), names, behind=behind, id="7", outputs=[{"name": "z"}])
    np.testing.assert_array_equal(decoded.inputs["images"].array, [[1.0, 2.5], [-3.0, 4.0]])
    assert decoded.inputs["names"].array.tolist() == ["NGC", "é"]
    assert decoded[1:] == ((RequestedOutput("z", False),), False, "7")
    for data in ([1, 2.5, None, 4], [[1, 2.5], [None, 4]]):
        decoded = request(image(data, parameters={"unit": "nanomaggy"}), parameters={"priority": 1})
        np.testing.assert_array_equal(decoded.inputs["images"].array, np.float32([[1, 2.5], [np.nan, 4]]))
    for spaces in range(8):
        header = json.dumps({"inputs": [image()]}).encode() + b" " * spaces
        array = decode_request(header + FOUR, len(header)).inputs["images"].array
        assert (array.tobytes(), array.flags.aligned) == (FOUR, True)
    for datatype, values in (("UINT8", [0, 255, 1, 2]), ("INT8", [-128, 127, 1, 2]), ("FP32", [np.inf, 1, 1, 1])):
        data = [1e39 if value == np.inf else value for value in values]
        assert request(image(data, datatype=datatype)).inputs["images"].array.ravel().tolist() == values
    assert request(image([7], shape=[1] * 8, name="x" * 256)).inputs["x" * 256].array.shape == (1,) * 8
    assert len(request(*(WHOLE | {"name": str(i)} for i in range(64))).inputs) == 64


any_numbers = st.sampled_from(list(NUMBERS.values())).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)
any_texts = arrays.arrays(object, arrays.array_shapes(max_dims=2, min_side=0), elements=st.text(max_size=5), fill=None)


@given(array=st.one_of(any_numbers, any_texts), binary=st.booleans())
def test_request_round_trip(array, binary):
    infinite = array.dtype.kind == "f" and np.isinf(array).any()
    message = encode_request([Tensor.of("x", array)], ["y"], binary=binary, request_id="é")
    assert (message.header_length is None) != binary
    decoded = decode_request(message.body, message.header_length)
    expected = np.where(np.isinf(array), np.nan, array).astype(array.dtype) if infinite and not binary else array
    assert decoded.inputs["x"].array.dtype == array.dtype
    np.testing.assert_array_equal(decoded.inputs["x"].array, expected)
    assert decoded[1:] == ((RequestedOutput("y", binary),), binary, "é")


@pytest.mark.parametrize("binary", [True, False])
def test_response_round_trip(binary):
    array = np.array([["NGC", "é"], ["", "224"]])
    outputs = [(Tensor.of("x", array), binary), (Tensor.of("y", np.array([1.5, np.nan])), not binary)]
    message = encode_response(outputs, model_name="photoz", model_version="1.2", request_id="7", parameters={"n": 1})
    decoded = decode_response(message.body, message.header_length)
    assert decoded[1:] == ("photoz", "1.2", "7", {"n": 1})
    assert list(decoded.outputs) == ["x", "y"]
    np.testing.assert_array_equal(decoded.outputs["x"].array, array)
    np.testing.assert_array_equal(decoded.outputs["y"].array, [1.5, np.nan])
    assert decode_response(b'{"outputs": []}') == ({}, "", "", None, {})


def test_bytes_and_json_are_those_of_the_protocol_without_copies():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    message = encode_request([Tensor.of("x", array)])
    entry = {"name": "x", "shape": [3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
    assert json.loads(message.parts[0]) == {"parameters": {"binary_data_output": True}, "inputs": [entry]}
    assert bytes(message.parts[1]) == struct.pack("<6f", 0, 3, 1, 4, 2, 5)
    response = encode_response([(Tensor.of("x", np.array([np.nan, 0.5])), False)], model_name="m", model_version="1")
    assert response.header_length is None
    entry = {"name": "x", "shape": [2], "datatype": "FP64", "data": [None, 0.5]}
    assert json.loads(response.body) == {"model_name": "m", "model_version": "1", "outputs": [entry]}
    for dtype in ("?", "c8", "M8[s]"):
        with pytest.raises(InvalidInput, match="^expected x as one of FP16, .*, UINT64 or as text, got dtype "):
            Tensor.of("x", np.zeros(3, dtype))
    pixels = np.ones((3, 8, 8, 5), np.float32)
    for name in ("i", "im", "images"):
        message = encode_request([Tensor.of(name, pixels)])
        assert np.shares_memory(np.frombuffer(message.parts[1], np.uint8), pixels)
        assert message.header_length == len(message.parts[0])
        assert message.header_length % 8 == 0
        body = message.body
        array = decode_request(body, message.header_length).inputs[name].array
        assert np.shares_memory(array, np.frombuffer(body, np.uint8))


def test_header_length_is_a_number_of_bytes_of_json_and_outputs_are_optional():
    assert [read_header_length(text) for text in (None, "0", "12", "9" * 19)] == [None, 0, 12, 10**19 - 1]
    for text in ("", "-1", "²", "1" * 20, "x" * 50):
        expected = f"^expected inference-header-content-length as a number of bytes, got '{text[:40]}'$"
        with pytest.raises(MalformedInput, match=expected):
            read_header_length(text)
    assert decode_request(b'{"inputs": []}', 14).inputs == {}
    for length in (0, -1, 15):
        with pytest.raises(MalformedInput, match=f"between 1 and 14, the length of the body, got {length}$"):
            decode_request(b'{"inputs": []}', length)
    for body in (b"", b"{", b"\xff", b"[" * 10**5, FOUR):
        with pytest.raises(MalformedInput, match=f"^the first {len(body)} bytes of the body are not JSON"):
            decode_request(body)
    for outputs in ({}, {"outputs": []}, {"outputs": None}, {"parameters": None}):
        assert request(**outputs) == DecodedRequest({}, None, False, None)
    binary = {"parameters": {"binary_data_output": True}}
    assert request(**binary) == DecodedRequest({}, None, True, None)
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    requested = (RequestedOutput("a", True), RequestedOutput("b", False))
    assert request(outputs=outputs, **binary) == DecodedRequest({}, requested, True, None)


CLASSES = [{"name": "a", "parameters": {"classification": 1, "binary_data": True}}]
MALFORMED = [
    ([], r"^the JSON: input should be a valid dictionary, got \[\]$"),
    ({}, "^inputs: field required$"),
    ({"inputs": [], "parameters": {"binary_data_output": 1}}, "binary_data_output: input should be a valid bool"),
    ({"inputs": [], "outputs": [{"name": "a"}, {"name": "a"}]}, "^a is given twice; expected each tensor once$"),
    ({"inputs": [], "outputs": CLASSES}, "^a: classification is not supported; expected binary_data or nothing$"),
    ({"inputs": [WHOLE | {"name": str(i)} for i in range(65)]}, "at most 64 items"),
    ({"inputs": [WHOLE, WHOLE]}, "^images is given twice; expected each tensor once$"),
    (
        {"inputs": [], "id": ["x" * 99] * 9},
        r"^id: input should be a valid string, got \['x{12}\.\.\.x{13}'.{40,}\.\.\.$",
    ),
    (image(["x" * 99] * 4), "^images: expected numbers or null as data, got a str$"),
    (WHOLE | {"name": "x" * 257}, "name: string should have at most 256 characters"),
    (WHOLE | {"datatype": "BF16"}, "datatype: input should be 'FP16', .* or 'BYTES', got 'BF16'$"),
    (WHOLE | {"shape": [-1, 4]}, r"shape\.0: input should be greater than or equal to 0, got -1$"),
    (WHOLE | {"shape": [4.0]}, r"shape\.0: input should be a valid integer, got 4.0$"),
    (WHOLE | {"shape": [2**40]}, r"shape\.0: input should be less than"),
    (WHOLE | {"shape": [2**40 - 1]}, r"expected data of shape \(1099511627775,\), nested or flat, got \(4,\)$"),
    (WHOLE | {"shape": [1] * 9}, "shape: list should have at most 8 items"),
    (image([1] * 3), r"^images: expected data of shape \(2, 2\), nested or flat, got \(3,\)$"),
    (image([[1, 2], [3]]), "^images: data do not form a regular array$"),
    (image([[1], [2], [[3], 4], [5]], shape=[4, 1]), "^images: data do not form a regular array$"),
    (image("1234"), "^images: expected data as a list, got a str$"),
    (image(None, parameters={}), "^images: expected either data, or binary_data_size in parameters and bytes"),
    (WHOLE | {"parameters": {"binary_data_size": 16}}, "^images: expected either data, or binary_data_size"),
    (image(None, parameters={"binary_data_size": -1}), "binary_data_size: input should be greater than or equal"),
    (image(), "^images: expected 16 bytes after the JSON, got 0$"),
    (image([1, 2, 3, True]), "^images: expected numbers or null as data, got a bool$"),
    (image([1, 2, 3, 10**400]), "^images: expected FP32: int too large"),
    (image([1, 2, 3, 4.5], datatype="INT32"), "^images: expected whole numbers as data, got a float$"),
    (image([1, 2, 3, 256], datatype="UINT8"), "^images: expected UINT8, 0 to 255, got a number beyond$"),
    (image([1, -129, 3, 127], datatype="INT8"), "^images: expected INT8, -128 to 127, got a number beyond$"),
    (WHOLE | {"datatype": "BYTES"}, "^images: expected text as data, got a int$"),
    (image([], shape=[0, 2**39, 2**39, 2**39]), "^images: no array has shape"),
]


@pytest.mark.parametrize(("content", "words"), MALFORMED)
def test_json_against_the_protocol_is_malformed(content, words):
    message = {"inputs": [content]} if "datatype" in content else content
    with pytest.raises(MalformedInput, match=words):
        decode_request(json.dumps(message).encode())


def test_bytes_that_disagree_with_the_json_are_malformed():
    for tensor, behind, words in (
        (image(), FOUR[:-1], "^images: expected 16 bytes after the JSON, got 15$"),
        (image(), FOUR + b"!", "^expected 16 bytes after the JSON, as binary_data_size says, got 17$"),
        (image(datatype="FP64"), FOUR, r"^images: FP64 of shape \(2, 2\) is 32 bytes, got 16$"),
        (image(shape=[2**39] * 8), FOUR, "bytes, got 16$"),
        (image(datatype="BYTES"), texts((13, b"x" * 12)), "^images: element 0 is longer than the remaining bytes$"),
        (image(datatype="BYTES"), texts((10, b"x" * 12)), "^images: expected the length of element 1 in four bytes"),
        (image(datatype="BYTES"), texts((12, b"\xff" * 12)), "^images: expected UTF-8 text, got other bytes"),
        (image(datatype="BYTES"), texts((12, b"x" * 12)), r"^images: shape \(2, 2\) has 4 elements, got 1$"),
        (image(datatype="BYTES", shape=[2, 1]), bytes(16), "^images: expected 2 elements, got 8 bytes more$"),
    ):
        with pytest.raises(MalformedInput, match=words):
            request(tensor, behind=behind)
    with pytest.raises(MalformedInput, match="again: expected 16 bytes after the JSON, got 15"):
        request(image(), image(name="again"), behind=FOUR + FOUR[:-1])
    body = json.dumps({"inputs": [image(["a"] * 4, datatype="BYTES")]}).encode()
    assert decode_request(body, max_texts=4).inputs["images"].array.tolist() == [["a", "a"]] * 2
    with pytest.raises(TooLarge, match=r"^images: expected at most 3 texts, got shape \(2, 2\)$"):
        decode_request(body, max_texts=3)


def test_limits_of_the_json_contract():
    for model, name, allowed, refused in (
        (EvaluateOptions, "num_images", (1, 36), (0, 37)),
        (EvaluateOptions, "seed", (0, 2**32 - 1), (-1, 2**32)),
        (SkyRequest, "ra", (0, 360), (-0.1, 360.1, float("nan"), float("inf"))),
        (SkyRequest, "dec", (-90, 90), (-90.1, 90.1, float("nan"))),
        (PredictRequest, "object_id", (["x" * 256, "7"],), (["x" * 257], [True])),
    ):
        others = {SkyRequest: {"ra": 1, "dec": 1}, PredictRequest: {"images": []}}.get(model, {})
        assert [getattr(model(**others | {name: value}), name) for value in allowed] == list(allowed)
        for value in refused:
            with pytest.raises(ValidationError):
                model(**others | {name: value})
    request = PredictRequest(images=[], object_id=["x", 7])
    assert (request.pdf, request.ebv, request.object_id) == (False, None, ["x", "7"])
    assert (EvaluateOptions().plot, EvaluateOptions().num_images, EvaluateOptions().seed) == (None, 9, 0)
    with pytest.raises(ValidationError) as error:
        EvaluateRequest(z_spec=["a", "b", "c"])
    assert error.value.error_count() == 1  # validation stops at the first wrong element
