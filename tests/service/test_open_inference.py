"""The Open Inference Protocol, with our own encoder; `test_tritonclient` uses Triton's."""

import io
import itertools
import json

import numpy as np
import pytest

from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.io import formats, npz
from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH, decode_response, encode_request
from photoz.protocol.tensors import Tensor
from service.compression import COMPRESSORS
from tests.service.helpers import check_error
from tests.toys import galaxies


@pytest.fixture(scope="module")
def path(card):
    return f"/v2/models/{card.name}/infer"


@pytest.fixture(scope="module")
def infer(client, path):
    """Post arrays, as bytes or as JSON; `change` changes the body."""

    def post(arrays, outputs=None, change=bytes, headers=(), **options):
        message = encode_request([Tensor.of(*item) for item in arrays.items()], outputs, **options)
        length = {} if message.header_length is None else {HEADER_LENGTH: str(message.header_length)}
        return client.post(path, content=change(message.body), headers=length | dict(headers))

    return post


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
        npz_response = post_npz("/predict_file?pdf=true", arrays, accept=formats.NPZ.media_type)
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


def test_large_request_in_chunks_is_answered_in_order(infer, check_same, card):
    arrays = {"images": galaxies(card.image, 70)}

    def chunked(body):
        return (body[start:stop] for start, stop in itertools.pairwise([0, 7, 205, 100_001, None]))

    check_same(infer(arrays, change=chunked), arrays)


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
    assert [tensor["name"] for tensor in model["inputs"]] == ["images", "ebv", "object_id"]
    found = json.loads(infer({"images": images}, binary=False).content)["outputs"]
    for tensor, described in zip(found, model["outputs"], strict=True):
        assert (tensor["name"], tensor["datatype"]) == (described["name"], described["datatype"])
        assert [-1, *tensor["shape"][1:]] == described["shape"]


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
        ({"images": lambda a: np.full((2, 2), "a")}, "expected images as FP32 or"),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, "expected ebv as one number"),
        ({"object_id": lambda a: np.full(len(a), 0.5)}, "expected object_id as BYTES or"),
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
    check_error(infer({"images": images}, change=lambda body: body[:-4]), 400, "bytes after the JSON")
    check_error(client.post(path, content=b""), 400, "not JSON")
    for length in ("-1", "9" * 30, "3"):
        check_error(client.post(path, content=b"{}", headers={HEADER_LENGTH: length}), 400, HEADER_LENGTH)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_request_gets_a_compressed_response_on_request(infer, images, check_same, encoding):
    def post(accepted):
        headers = {"content-encoding": encoding, "accept-encoding": accepted}
        return infer({"images": images}, change=COMPRESSORS[encoding], headers=headers)

    response = post(encoding)
    assert response.headers["content-encoding"] == encoding  # httpx decompresses it
    check_same(response, {"images": images})
    for accepted in ("gzip, deflate, br", ""):  # as browsers and HTTP libraries send it with every request
        assert "content-encoding" not in post(accepted).headers


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_unreadable_compressed_body(infer, images, encoding):
    def check(change, status, message, encoding=encoding):
        check_error(infer({"images": images}, change=change, headers={"content-encoding": encoding}), status, message)

    compress = COMPRESSORS[encoding]
    check(bytes, 415, "cannot read Content-Encoding br: expected gzip or deflate", "br")
    check(lambda body: compress(body)[:-50], 400, f"ends before its {encoding} stream")
    check(lambda body: compress(body) + b"junk", 400, f"one {encoding} stream as the body, got more bytes")
    check(lambda body: compress(body)[2:], 400, f"compressed with {encoding}")
