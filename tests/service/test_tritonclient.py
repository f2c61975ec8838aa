"""Triton's own client against the service."""

from urllib.parse import urlsplit

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from photoz.estimates import COLUMNS


@pytest.fixture(scope="module")
def triton(service_url):
    with InferenceServerClient(urlsplit(service_url).netloc, concurrency=4) as triton:
        yield triton


@pytest.fixture(scope="module")
def expected(post_npy, images):
    return post_npy("/predict_file?pdf=true", images).json()


def tensor(name, array, datatype="FP32", binary=True):
    filled = InferInput(name, list(array.shape), datatype)
    filled.set_data_from_numpy(array, binary_data=binary)
    return filled


def test_health_and_metadata(triton, card):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    (listed,) = triton.get_model_repository_index()
    assert (listed["name"], listed["version"], listed["state"]) == (card.name, card.version, "READY")
    for version in ("", card.version):
        assert triton.is_model_ready(card.name, version)
        metadata = triton.get_model_metadata(card.name, version)
        assert metadata["versions"] == [card.version]
        assert metadata["inputs"][0] == {"name": "images", "datatype": "FP32", "shape": [-1, *card.image.shape]}
    assert not triton.is_model_ready(card.name, "0")
    assert not triton.is_model_ready("other")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("sent", "received"), [(None, None), ("gzip", None), ("deflate", "gzip"), (None, "deflate")])
def test_all_outputs_with_compression(triton, card, images, expected, binary, sent, received):
    encodings = {"request_compression_algorithm": sent, "response_compression_algorithm": received}
    result = triton.infer(card.name, [tensor("images", images, binary=binary)], **encodings)
    np.testing.assert_array_equal(result.as_numpy("pdf"), np.array(expected["pdf"], np.float32))
    assert result.as_numpy("pdf").dtype == np.float32
    for name in set(COLUMNS) - {"object_id"}:
        np.testing.assert_array_equal(result.as_numpy(name), np.array(expected[name], float))


@pytest.mark.parametrize("binary", [True, False])
def test_all_inputs_and_chosen_outputs(triton, card, images, post_npz, binary):
    ebv = np.full((len(images), 1), 0.05, np.float32)
    names = np.array([f"galaxy é {i}" for i in range(len(images))], object)
    inputs = [tensor("object_id", names, "BYTES", binary), tensor("images", images), tensor("ebv", ebv, binary=binary)]
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("object_id", "z_mean")]
    result = triton.infer(card.name, inputs, card.version, outputs, request_id="a-7")
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (card.name, card.version, "a-7")
    assert [output["name"] for output in answer["outputs"]] == ["object_id", "z_mean"]
    assert ("data" in answer["outputs"][1]) is not binary
    found = [name if isinstance(name, str) else name.decode() for name in result.as_numpy("object_id")]
    assert found == names.tolist()
    expected = post_npz("/predict_file", {"images": images, "ebv": ebv}).json()
    np.testing.assert_array_equal(result.as_numpy("z_mean"), expected["z_mean"])


@pytest.mark.parametrize(
    ("model", "version", "name", "array", "datatype", "output", "status", "words"),
    [
        ("other", "", "images", np.float32, "FP32", "z_mean", "404", "there is no model other here"),
        (None, "", "pixels", np.float32, "FP32", "z_mean", "400", "there is no input pixels; expected images"),
        (None, "", "images", np.bool_, "BOOL", "z_mean", "400", "inputs.0.datatype: input should be .*, got .BOOL."),
        (None, "", "images", np.bytes_, "BYTES", "z_mean", "413", "images: expected at most 4,096 texts"),
    ],
)
def test_errors_are_raised(triton, card, images, model, version, name, array, datatype, output, status, words):
    inputs = [tensor(name, images[:1].astype(array), datatype)]
    with pytest.raises(InferenceServerException, match=words) as caught:
        triton.infer(model or card.name, inputs, version, [InferRequestedOutput(output)])
    assert caught.value.status() == status


def test_other_requests_of_triton_are_refused(triton, card, images):
    for call in (triton.get_model_config, triton.get_inference_statistics, triton.load_model):
        with pytest.raises(InferenceServerException, match="no such path: /v2/"):
            call(card.name)
    outputs = [InferRequestedOutput("pdf", class_count=3)]
    with pytest.raises(InferenceServerException, match="classification is not supported"):
        triton.infer(card.name, [tensor("images", images)], outputs=outputs)
