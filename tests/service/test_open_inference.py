"""The Open Inference Protocol, with our own encoder and Triton's client."""

import io
import itertools
from urllib.parse import urlsplit

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.io import formats, npz
from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH, RequestedOutput, decode_response, encode_request
from photoz.protocol.tensors import Tensor
from service.compression import COMPRESSORS
from service.formats.infer import InferRequest, decode, encoding_work
from tests.service.helpers import check_error
from tests.toys import galaxies


@pytest.fixture(scope="module")
def infer(client, card):
    """Post arrays, as bytes or as JSON; `change` changes the body."""

    def post(arrays, outputs=None, change=bytes, headers=(), **options):
        message = encode_request([Tensor.of(*item) for item in arrays.items()], outputs, **options)
        length = {} if message.header_length is None else {HEADER_LENGTH: str(message.header_length)}
        return client.post(
            f"/v2/models/{card.name}/infer", content=change(message.body), headers=length | dict(headers)
        )

    return post


def outputs(response):
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
        assert list(found) == [name for name in expected if name in found] == [*COLUMNS, "pdf"]
        assert found["object_id"].tolist() == expected["object_id"].astype(str).tolist()
        np.testing.assert_array_equal(found["pdf"], expected["pdf"].astype(np.float32))
        for name in set(COLUMNS) - {"object_id"}:
            assert found[name].dtype == (np.int32 if name == "flags" else np.float64)
            np.testing.assert_array_equal(found[name], expected[name])

    return check


def test_estimates_are_those_of_the_other_endpoints(infer, check_same, card):
    def chunked(body):
        return (body[start:stop] for start, stop in itertools.pairwise([0, 7, 205, 100_001, None]))

    images, ebv = galaxies(card.image, 70), np.linspace(0.0, 0.2, 70, dtype=np.float32)
    images[1, 0, 0, 0] = ebv[1] = np.nan
    arrays = {"images": images, "ebv": ebv, "object_id": np.array([f"NGC {i} é" for i in range(70)])}
    numbered, few = arrays | {"object_id": 2**63 - 1 - np.arange(70)}, {name: a[:6] for name, a in arrays.items()}
    for sent, change, binary in ((numbered, chunked, True), (few, bytes, True), (few, bytes, False)):
        response = infer(sent, change=change, binary=binary)
        check_same(response, sent)
        flags = outputs(response)["flags"]
        assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags[:2]] == [False, True]
        assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags[:2]] == [False, card.inputs.ebv]
    response = infer(few, ["flags", "z_mean"])
    some = decode_response(response.content, int(response.headers[HEADER_LENGTH]))
    assert (list(some.outputs), some.request_id) == (["flags", "z_mean"], None)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


def test_tensors_are_aligned_behind_any_header_and_not_copied(images):
    message = encode_request([Tensor.of("images", images)])
    header, data = bytes(message.body[: message.header_length]), bytes(message.body[message.header_length :])
    for n_spaces in range(8):
        array = decode([header + b" " * n_spaces, data], len(header) + n_spaces, 1).arrays["images"]
        assert (array.ctypes.data % 8, array.flags.owndata) == (0, False)
        np.testing.assert_array_equal(array, images)


def test_memory_of_an_answer_and_work_to_encode_it(card, images):
    asked = [(RequestedOutput("pdf", binary),) for binary in (True, False)]
    for array, n in ((images, len(images)), (np.array(1.0), 1)):
        requests = [InferRequest({"images": array}, outputs, None) for outputs in asked]
        assert [request.pdf_bytes(card) for request in requests] == [n * 180 * 8, n * 180 * 60]
    assert [encoding_work(outputs, 3, card) for outputs in asked] == [3 * 180 * 4, 3 * 180 * 4 * 20]


def test_outputs_are_json_by_default_as_the_metadata_say(client, card, images):
    tensor = {"name": "images", "shape": images[:1].shape, "datatype": "FP32", "data": images[:1].tolist()}
    response = client.post(f"/v2/models/{card.name}/infer", json={"inputs": [tensor]})
    assert response.headers["content-type"] == "application/json"
    assert HEADER_LENGTH not in response.headers
    assert "id" not in response.json()
    found = response.json()["outputs"]
    inputs = {"images": ("FP32", [-1, *card.image.shape]), "ebv": ("FP32", [-1]), "object_id": ("BYTES", [-1])}
    assert client.get(f"/v2/models/{card.name}/versions/{card.version}").json() == {
        "name": card.name,
        "versions": [card.version],
        "platform": "photoz_bundle",
        "inputs": [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in inputs.items()],
        "outputs": [{"name": o["name"], "datatype": o["datatype"], "shape": [-1, *o["shape"][1:]]} for o in found],
    }


def test_unusable_inputs_and_malformed_bodies(client, infer, images, card):
    two, path = images[:2], f"/v2/models/{card.name}/infer"
    for change, words in (
        ({"images": two[:, 1:]}, "expected images of shape"),
        ({"images": np.full((2, 2), "a")}, "expected images as FP32 or"),
        ({"ebv": np.zeros(3)}, "expected ebv as one number"),
        ({"object_id": np.full(2, 0.5)}, "expected object_id as BYTES or INT64 or"),
        ({"pixels": two}, "there is no input pixels; expected images"),
    ):
        for binary in (True, False):
            check_error(refused := infer({"images": two} | change, binary=binary), 400, words)
    assert refused.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    check_error(infer({"ebv": np.zeros(1)}), 400, "expected an input images, got ebv")
    check_error(infer({"images": images}, ["redshift"]), 400, "there is no output redshift", "z_mean")
    check_error(infer({"images": images}, change=lambda body: body[:-4]), 400, "bytes after the JSON")
    check_error(client.post(path, content=b""), 400, "not JSON")
    for length in ("-1", "9" * 30, "3"):
        check_error(client.post(path, content=b"{}", headers={HEADER_LENGTH: length}), 400, HEADER_LENGTH)


def test_responses_are_compressed_only_as_asked(infer, images):
    def post(accepted, sent="gzip"):
        headers = {"content-encoding": sent, "accept-encoding": accepted}
        return infer({"images": images}, change=COMPRESSORS["gzip"], headers=headers)

    assert post("GZIP").headers["content-encoding"] == "gzip"
    for accepted in ("gzip, deflate, br", ""):  # as browsers and HTTP libraries send it with every request
        assert "content-encoding" not in post(accepted).headers
    check_error(post("", sent="deflate"), 400, "expected a body compressed with deflate, got other bytes")
    check_error(post("", sent="br"), 415, "cannot read Content-Encoding br: expected gzip or deflate")


@pytest.fixture(scope="module")
def triton(service_url):
    with InferenceServerClient(urlsplit(service_url).netloc, concurrency=4) as triton:  # its timeouts are 60 s
        yield triton


def tensor(name, array, datatype="FP32", binary=True):
    filled = InferInput(name, list(array.shape), datatype)
    filled.set_data_from_numpy(array, binary_data=binary)
    return filled


def test_health_readiness_and_unknown_models(triton, client, card):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    model = {"name": card.name, "version": card.version, "state": "READY", "reason": ""}
    assert triton.get_model_repository_index() == [model]
    for version in ("", card.version):
        assert triton.is_model_ready(card.name, version)
        assert triton.get_model_metadata(card.name, version)["versions"] == [card.version]
    expected = f"here; expected model {card.name}, version {card.version}"
    for path in ("", "/ready"):
        check_error(client.get(f"/v2/models/other{path}"), 404, f"there is no model other {expected}")
        refused = client.get(f"/v2/models/{card.name}/versions/0{path}")
        check_error(refused, 404, f"there is no version 0 of model {card.name} {expected}")
    check_error(client.post("/v2/models/other/infer", content=b"x"), 404, f"there is no model other {expected}")
    check_error(client.get(f"/v2/models/{card.name}/infer"), 405, "GET")
    for call in (triton.get_model_config, triton.get_inference_statistics, triton.load_model):
        with pytest.raises(InferenceServerException, match="no such path: /v2/"):
            call(card.name)


@pytest.mark.parametrize(
    ("binary", "sent", "received"), [(True, "gzip", None), (False, "deflate", "gzip"), (True, None, "deflate")]
)
def test_triton_sends_and_receives_all_tensors(triton, card, images, post_npz, binary, sent, received):
    names = np.array([f"galaxy é {i}" for i in range(len(images))], object)
    ebv = np.full((len(images), 1), 0.05, np.float32)
    expected = post_npz("/predict_file?pdf=true", {"images": images, "ebv": ebv}).json() | {"object_id": names.tolist()}
    inputs = [tensor("object_id", names, "BYTES", binary), tensor("images", images), tensor("ebv", ebv, binary=binary)]
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("pdf", *COLUMNS)]
    encodings = {"request_compression_algorithm": sent, "response_compression_algorithm": received}
    result = triton.infer(card.name, inputs, card.version, outputs, request_id="a-7", **encodings)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (card.name, card.version, "a-7")
    assert [output["name"] for output in answer["outputs"]] == ["pdf", *COLUMNS]
    assert ("data" in answer["outputs"][1]) is not binary
    for name in ("pdf", *COLUMNS):
        values = result.as_numpy(name)
        if values.dtype == object:
            values = [value if isinstance(value, str) else value.decode() for value in values]
        np.testing.assert_array_equal(values, np.array(expected[name], np.float32 if name == "pdf" else None), name)
    with pytest.raises(InferenceServerException, match="classification is not supported"):
        triton.infer(card.name, inputs, outputs=[InferRequestedOutput("pdf", class_count=3)])


def test_tensors_of_other_types_are_refused(triton, card, images):
    for array, datatype, status, words in (
        (np.bool_, "BOOL", "400", "inputs.0.datatype: input should be .*, got .BOOL."),
        (np.bytes_, "BYTES", "413", "images: expected at most 4,096 texts"),
    ):
        with pytest.raises(InferenceServerException, match=words) as caught:
            triton.infer(card.name, [tensor("images", images[:1].astype(array), datatype)])
        assert caught.value.status() == status
