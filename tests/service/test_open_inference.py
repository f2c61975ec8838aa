"""The Open Inference Protocol, with requests of our own; see `test_tritonclient`."""

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
        return client.post(path, content=message.body, headers=length_header(message.header_length))

    return post


def length_header(length):
    return {} if length is None else {HEADER_LENGTH: str(length)}


def outputs(response):
    """Read the outputs of a successful response as arrays by name."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    decoded = decode_response(response.content, length and int(length))
    return {name: tensor.array for name, tensor in decoded.outputs.items()}


@pytest.fixture(scope="module")
def predict(post_npz):
    """Return the response of /predict_file to the same arrays."""

    def predict(arrays):
        response = post_npz("/predict_file?pdf=true", arrays, accept=contract.NPZ)
        return npz.read_arrays(io.BytesIO(response.content))

    return predict


def check_same(answer, expected):
    assert list(answer) == list(expected) == [*COLUMNS, "pdf"]
    assert answer["object_id"].tolist() == expected["object_id"].tolist()
    np.testing.assert_array_equal(answer["pdf"], expected["pdf"].astype(np.float32))
    for name in set(COLUMNS) - {"object_id"}:
        assert answer[name].dtype == (np.int32 if name == "flags" else np.float64)
        np.testing.assert_array_equal(answer[name], expected[name])


@pytest.mark.parametrize("binary", [True, False])
def test_estimates_are_those_of_the_other_endpoints(infer, predict, images, binary):
    n = len(images)
    arrays = {"images": images, "ebv": np.linspace(0.0, 0.2, n, dtype=np.float32)}
    arrays["object_id"] = np.array([f"NGC {i} é" for i in range(n)])
    check_same(outputs(infer(arrays, binary=binary)), predict(arrays))


def test_large_request_in_chunks_is_answered_in_order(client, path, predict, card):
    arrays = {"images": galaxies(card.image, 70)}
    message = encode_request([Tensor.of("images", arrays["images"])])
    ends = [0, 7, message.header_length + 5, message.header_length + 100_001, None]
    pieces = (message.body[start:stop] for start, stop in itertools.pairwise(ends))
    response = client.post(path, content=pieces, headers=length_header(message.header_length))
    check_same(outputs(response), predict(arrays))


@pytest.mark.parametrize("dtype", ["f8", "f2", "i2", "u4"])
def test_images_may_be_of_any_number_type(infer, predict, images, dtype):
    arrays = {"images": np.clip(100 * images, 0, None).astype(dtype)}
    check_same(outputs(infer(arrays)), predict(arrays))


def test_masked_pixels_and_unknown_ebv_raise_flags(infer, card, images):
    masked = images[:2].copy()
    masked[1, 0, 0, 0] = np.nan
    ebv = np.array([[0.02], [np.nan]], np.float32)
    for binary in (True, False):
        flags = outputs(infer({"images": masked, "ebv": ebv}, ["flags"], binary=binary))["flags"]
        assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags] == [False, True]
        assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags] == [False, card.inputs.ebv]


def test_names_may_be_integers(infer, images):
    names = np.array([587722952230174996, 2**63 - 1])
    answer = outputs(infer({"images": images[:2], "object_id": names}, ["object_id"]))
    assert answer["object_id"].tolist() == [str(name) for name in names]


def test_requested_outputs_are_returned_in_their_order(infer, images, card):
    response = infer({"images": images}, ["flags", "pdf"], request_id="a-7")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    decoded = decode_response(response.content, int(response.headers[HEADER_LENGTH]))
    assert (decoded.model_name, decoded.model_version, decoded.request_id) == (card.name, card.version, "a-7")
    assert [(t.name, t.datatype, t.array.shape) for t in decoded.outputs.values()] == [
        ("flags", "INT32", (len(images),)),
        ("pdf", "FP32", (len(images), card.grid.n_bins)),
    ]


def test_outputs_are_json_by_default(client, path, images):
    tensor = {"name": "images", "shape": images[:1].shape, "datatype": "FP32", "data": images[:1].tolist()}
    response = client.post(path, json={"inputs": [tensor], "outputs": [{"name": "z_mean"}]})
    assert response.headers["content-type"] == "application/json"
    assert HEADER_LENGTH not in response.headers
    (output,) = response.json()["outputs"]
    assert "id" not in response.json()
    assert (output["name"], output["shape"], output["datatype"]) == ("z_mean", [1], "FP64")
    assert 0 < output["data"][0] < 1


def test_binary_and_json_tensors_can_be_mixed(client, path, images):
    n = len(images)
    names = {"name": "object_id", "shape": [n], "datatype": "BYTES", "data": [f"g{i}" for i in range(n)]}
    pixels = {"name": "images", "shape": images.shape, "datatype": "FP32"}
    pixels["parameters"] = {"binary_data_size": images.nbytes}
    requested = [{"name": "z_mean", "parameters": {"binary_data": False}}, {"name": "odds"}, {"name": "object_id"}]
    content = {"inputs": [names, pixels], "outputs": requested, "parameters": {"binary_data_output": True}}
    header = json.dumps(content).encode()
    response = client.post(path, content=header + images.tobytes(), headers=length_header(len(header)))
    answer = json.loads(response.content[: int(response.headers[HEADER_LENGTH])])
    assert ["data" in output for output in answer["outputs"]] == [True, False, False]
    assert outputs(response)["object_id"].tolist() == names["data"]


def test_metadata(client, card):
    """`test_tritonclient` reads the rest."""
    (listed,) = client.post("/v2/repository/index", json={}).json()
    assert (listed["name"], listed["version"], listed["state"]) == (card.name, card.version, "READY")
    model = client.get(f"/v2/models/{card.name}/versions/{card.version}").json()
    described = {tensor["name"]: tensor for tensor in model["inputs"] + model["outputs"]}
    assert described["images"] == {"name": "images", "datatype": "FP32", "shape": [-1, *card.image.shape]}
    assert described["pdf"] == {"name": "pdf", "datatype": "FP32", "shape": [-1, card.grid.n_bins]}
    assert {"ebv", "object_id", *COLUMNS} <= described.keys()


def test_response_agrees_with_the_metadata(client, infer, card, images):
    promised = client.get(f"/v2/models/{card.name}").json()["outputs"]
    answer = json.loads(infer({"images": images}, binary=False).content)["outputs"]
    assert [(t["name"], t["datatype"], t["shape"][1:]) for t in answer] == [
        (t["name"], t["datatype"], t["shape"][1:]) for t in promised
    ]


def test_unknown_models_versions_and_methods(client, card):
    name = card.name
    check_error(client.get("/v2/models/other"), 404, "no model other here", name, card.version)
    check_error(client.get(f"/v2/models/{name}/versions/0/ready"), 404, f"no version 0 of model {name}", card.version)
    check_error(client.post("/v2/models/other/infer", content=b"x"), 404, "no model other here")
    check_error(client.post(f"/v2/models/{name}/versions/0/infer", content=b"x"), 404, "no version 0")
    check_error(client.get(f"/v2/models/{name}/config"), 404, "/config")
    check_error(client.get(f"/v2/models/{name}/infer"), 405, "GET")


def test_openapi_document_lists_the_paths(client, card):
    document = client.get("/docs.json").json()
    paths = document["paths"]
    for path in ("/v2", "/v2/health/live", "/v2/models/{model_name}/versions/{model_version}/ready"):
        assert "get" in paths[path]
    operation = paths["/v2/models/{model_name}/infer"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert {"InferRequest", "InferResponse", "InferTensor"} <= set(document["components"]["schemas"])
    for name in document["paths"]:
        concrete = name.replace("{model_name}", card.name).replace("{model_version}", card.version)
        assert client.options(concrete).status_code == 405, name  # there, but not for this method


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": lambda a: a[:, 1:]}, ["expected images of shape"]),
        ({"images": lambda a: np.full_like(a, np.nan)}, ["cutout 0 has no finite pixel"]),
        ({"images": lambda a: np.full((2, 2), "a")}, ["expected images as FP32 or", "got BYTES"]),
        ({"ebv": lambda a: np.zeros(len(a) + 1)}, ["expected one ebv"]),
        ({"ebv": lambda a: np.full(len(a), "a")}, ["expected ebv as FP32 or", "got BYTES"]),
        ({"object_id": lambda a: np.array(["one"])}, ["names or integers", "(1,)"]),
        ({"object_id": lambda a: np.full(len(a), 0.5)}, ["expected object_id as BYTES or", "got FP64"]),
        ({"object_id": lambda a: np.full(len(a), "x" * 257)}, ["at most 256 characters, got one of 257"]),
        ({"pixels": lambda a: a}, ["there is no input pixels; expected images"]),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_unusable_inputs(infer, images, change, words, binary):
    arrays = {"images": images[:2]} | {name: make(images[:2]) for name, make in change.items()}
    check_error(infer(arrays, binary=binary), 400, *words)


def test_missing_images_and_unknown_outputs(infer, images, card):
    refused = infer({"ebv": np.zeros(1)})
    check_error(refused, 400, "expected an input images, got ebv")
    assert refused.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    check_error(infer({"images": images}, ["redshift"]), 400, "there is no output redshift", "z_mean")


@pytest.mark.parametrize("length", ["-1", "1e2", "²", "0", "99999999", "9" * 30])
def test_invalid_length_of_the_json(client, path, length):
    headers = {HEADER_LENGTH: length.encode("latin-1")}
    check_error(client.post(path, content=b'{"inputs": []}', headers=headers), 400, HEADER_LENGTH)


def test_too_few_or_too_many_bytes(client, path, images):
    message = encode_request([Tensor.of("images", images)])
    header = length_header(message.header_length)
    check_error(client.post(path, content=message.body[:-4], headers=header), 400, "bytes after the JSON")
    check_error(client.post(path, content=message.body + b"junk", headers=header), 400, "bytes after the JSON")
    check_error(client.post(path, content=message.body), 400, "not JSON")
    check_error(client.post(path, content=b""), 400, "not JSON")


def post_compressed(client, path, images, encoding, accept, change=lambda body: body):
    message = encode_request([Tensor.of("images", images)], ["z_mean", "pdf"])
    headers = {"content-encoding": encoding, "accept-encoding": accept} | length_header(message.header_length)
    body = COMPRESSORS[encoding](message.body) if encoding in COMPRESSORS else message.body
    return client.post(path, content=change(body), headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_request_gets_a_compressed_response_on_request(client, path, images, predict, encoding):
    response = post_compressed(client, path, images, encoding, encoding)
    assert response.headers["content-encoding"] == encoding  # httpx decompresses it
    np.testing.assert_array_equal(outputs(response)["z_mean"], predict({"images": images})["z_mean"])
    response = post_compressed(client, path, images, encoding, "gzip, deflate, br")
    assert "content-encoding" not in response.headers
    assert "content-encoding" not in post_compressed(client, path, images, "identity", "").headers


def test_unreadable_compressed_body(client, path, images):
    def check(encoding, change, status, *words):
        check_error(post_compressed(client, path, images, encoding, "", change), status, *words)

    check("br", bytes, 415, "Content-Encoding br", "gzip or deflate")
    for encoding in COMPRESSORS:
        check(encoding, lambda body: body[:-50], 400, "ends before its", encoding)
        check(encoding, lambda body: body + b"junk", 400, "got 4 bytes more")
        check(encoding, lambda body: body[2:], 400, f"compressed with {encoding}")
