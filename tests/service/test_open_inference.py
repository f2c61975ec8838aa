"""The Open Inference Protocol, with our own encoder; `test_tritonclient` uses Triton's."""

import io
import itertools
import json

import numpy as np
import pytest

from photoz.estimates import COLUMNS, Flag
from photoz.io import npz
from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH, decode_response, encode_request
from photoz.protocol.tensors import Tensor
from service.formats.compression import COMPRESSORS
from tests.service.helpers import check_error
from tests.toys import galaxies


@pytest.fixture(scope="module")
def path(card):
    return f"/v2/models/{card.name}/infer"


@pytest.fixture(scope="module")
def infer(client, path):
    """Post arrays, as bytes or as JSON, and return the response."""

    def post(arrays, outputs=None, **options):
        message = encode_request([Tensor.of(*item) for item in arrays.items()], outputs, **options)
        return client.post(path, content=message.body, headers=length_header(message))

    return post


def length_header(message):
    return {} if message.header_length is None else {HEADER_LENGTH: str(message.header_length)}


def outputs(response):
    """Read the outputs of a successful response as arrays by name."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    decoded = decode_response(response.content, length and int(length))
    return {name: tensor.array for name, tensor in decoded.outputs.items()}


@pytest.fixture(scope="module")
def check_same(post_npz):
    """Check that a response has the estimates of /predict_file for the same arrays."""

    def check(response, arrays):
        found = outputs(response)
        npz_response = post_npz("/predict_file?pdf=true", arrays, accept=contract.NPZ)
        expected = npz.read_arrays(io.BytesIO(npz_response.content))
        assert list(found) == list(expected) == [*COLUMNS, "pdf"]
        assert found["object_id"].tolist() == expected["object_id"].tolist()
        np.testing.assert_array_equal(found["pdf"], expected["pdf"].astype(np.float32))
        for name in set(COLUMNS) - {"object_id"}:
            assert found[name].dtype == (np.int32 if name == "flags" else np.float64)
            np.testing.assert_array_equal(found[name], expected[name])

    return check


@pytest.mark.parametrize("binary", [True, False])
def test_estimates_are_those_of_the_other_endpoints(infer, check_same, images, binary):
    arrays = {"images": images, "ebv": np.linspace(0.0, 0.2, len(images), dtype=np.float32)}
    arrays["object_id"] = np.array([f"NGC {i} é" for i in range(len(images))])
    check_same(infer(arrays, binary=binary), arrays)


def test_large_request_in_chunks_is_answered_in_order(client, path, check_same, card):
    arrays = {"images": galaxies(card.image, 70)}
    message = encode_request([Tensor.of("images", arrays["images"])])
    ends = [0, 7, message.header_length + 5, message.header_length + 100_001, None]
    chunks = (message.body[start:stop] for start, stop in itertools.pairwise(ends))
    check_same(client.post(path, content=chunks, headers=length_header(message)), arrays)


@pytest.mark.parametrize("dtype", ["f8", "f2", "i2", "u4"])
def test_images_may_be_of_any_number_type(infer, check_same, images, dtype):
    arrays = {"images": np.clip(100 * images, 0, None).astype(dtype)}
    check_same(infer(arrays), arrays)


@pytest.mark.parametrize("binary", [True, False])
def test_masked_pixels_and_unknown_ebv_raise_flags(infer, card, images, binary):
    masked = images[:2].copy()
    masked[1, 0, 0, 0] = np.nan
    ebv = np.array([[0.02], [np.nan]], np.float32)
    flags = outputs(infer({"images": masked, "ebv": ebv}, ["flags"], binary=binary))["flags"]
    assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags] == [False, True]
    assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags] == [False, card.inputs.ebv]


def test_requested_outputs_are_returned_in_their_order(infer, images, card):
    names = np.array([587722952230174996, 2**63 - 1])
    arrays = {"images": images[:2], "object_id": names}
    response = infer(arrays, ["flags", "pdf", "object_id"], request_id="a-7")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    decoded = decode_response(response.content, int(response.headers[HEADER_LENGTH]))
    assert (decoded.model_name, decoded.model_version, decoded.request_id) == (card.name, card.version, "a-7")
    expected = [("flags", "INT32", (2,)), ("pdf", "FP32", (2, card.grid.n_bins)), ("object_id", "BYTES", (2,))]
    assert [(t.name, t.datatype, t.array.shape) for t in decoded.outputs.values()] == expected
    assert decoded.outputs["object_id"].array.tolist() == [str(name) for name in names]


def test_outputs_are_json_by_default(client, path, images):
    tensor = {"name": "images", "shape": images[:1].shape, "datatype": "FP32", "data": images[:1].tolist()}
    response = client.post(path, json={"inputs": [tensor], "outputs": [{"name": "z_mean"}]})
    assert response.headers["content-type"] == "application/json"
    assert HEADER_LENGTH not in response.headers
    assert "id" not in response.json()
    (output,) = response.json()["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("z_mean", [1], "FP64")
    assert 0 < output["data"][0] < 1


def test_metadata_describe_the_tensors(client, infer, card, images):
    model = client.get(f"/v2/models/{card.name}/versions/{card.version}").json()
    images_, ebv, names = model["inputs"]
    assert images_ == {"name": "images", "datatype": "FP32", "shape": [-1, *card.image.shape]}
    assert (ebv["name"], names["name"]) == ("ebv", "object_id")
    found = json.loads(infer({"images": images}, binary=False).content)["outputs"]

    def described(tensors):
        return [(tensor["name"], tensor["datatype"], tensor["shape"][1:]) for tensor in tensors]

    assert described(found) == described(model["outputs"])


def test_unknown_models_versions_and_methods(client, card):
    name = card.name
    check_error(client.get("/v2/models/other"), 404, "no model other here", name, card.version)
    check_error(client.get(f"/v2/models/{name}/versions/0/ready"), 404, f"no version 0 of model {name}", card.version)
    check_error(client.post("/v2/models/other/infer", content=b"x"), 404, "no model other here")
    check_error(client.get(f"/v2/models/{name}/config"), 404, "/config")
    check_error(client.get(f"/v2/models/{name}/infer"), 405, "GET")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": lambda a: a[:, 1:]}, "expected images of shape"),
        ({"images": lambda a: np.full_like(a, np.nan)}, "cutout 0 has no finite pixel"),
        ({"images": lambda a: np.full((2, 2), "a")}, "expected images as FP32 or"),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, "expected one ebv"),
        ({"ebv": lambda a: np.full(len(a), "a")}, "expected ebv as FP32 or"),
        ({"object_id": lambda a: np.full(len(a), 0.5)}, "expected object_id as BYTES or"),
        ({"object_id": lambda a: np.full(len(a), "x" * 257)}, "at most 256 characters, got one of 257"),
        ({"pixels": lambda a: a}, "there is no input pixels; expected images"),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_unusable_inputs(infer, images, card, change, words, binary):
    arrays = {"images": images[:2]} | {name: make(images[:2]) for name, make in change.items()}
    refused = infer(arrays, binary=binary)
    check_error(refused, 400, words)
    assert refused.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


def test_malformed_bodies(client, path, infer, images):
    check_error(infer({"ebv": np.zeros(1)}), 400, "expected an input images, got ebv")
    check_error(infer({"images": images}, ["redshift"]), 400, "there is no output redshift", "z_mean")
    message = encode_request([Tensor.of("images", images)])
    check_error(client.post(path, content=message.body[:-4], headers=length_header(message)), 400, "after the JSON")
    for content, length in [(message.body, None), (b"", None), (b"{}", "-1"), (b"{}", "9" * 30), (b"{}", "3")]:
        headers = {HEADER_LENGTH: length} if length else {}
        check_error(client.post(path, content=content, headers=headers), 400, HEADER_LENGTH if length else "not JSON")


def post_compressed(client, path, images, encoding, accept, change=lambda body: body):
    message = encode_request([Tensor.of("images", images)])
    headers = {"content-encoding": encoding, "accept-encoding": accept} | length_header(message)
    body = COMPRESSORS[encoding](message.body) if encoding in COMPRESSORS else message.body
    return client.post(path, content=change(body), headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_request_gets_a_compressed_response_on_request(client, path, images, check_same, encoding):
    response = post_compressed(client, path, images, encoding, encoding)
    assert response.headers["content-encoding"] == encoding  # httpx decompresses it
    check_same(response, {"images": images})
    for accept in ("gzip, deflate, br", ""):  # as browsers and HTTP libraries send it with every request
        assert "content-encoding" not in post_compressed(client, path, images, encoding, accept).headers


def test_unreadable_compressed_body(client, path, images):
    def check(encoding, change, status, *words):
        check_error(post_compressed(client, path, images, encoding, "", change), status, *words)

    check("br", bytes, 415, "Content-Encoding br", "gzip or deflate")
    for encoding in COMPRESSORS:
        check(encoding, lambda body: body[:-50], 400, "ends before its", encoding)
        check(encoding, lambda body: body + b"junk", 400, "got 4 bytes more")
        check(encoding, lambda body: body[2:], 400, f"compressed with {encoding}")
