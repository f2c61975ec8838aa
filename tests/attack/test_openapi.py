"""Every response of the service conforms to its OpenAPI document, for valid and invalid requests."""

import json

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.config import SchemathesisConfig

from photoz.io import formats
from photoz.io.npz import npz_bytes
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor
from service.formats.negotiation import OCTETS, PREDICTIONS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# The document cannot say that a batch has as many names as images: valid requests may be refused, too.
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer(
    OCTETS, formats.NPY.media_type, formats.NPZ.media_type, formats.FITS.media_type, formats.HDF5.media_type
)
def raw_bytes(ctx, value):
    return value if isinstance(value, bytes) else getattr(value, "data", str(value).encode())


@pytest.fixture(scope="module")
def operations(service_url):
    document = schemathesis.openapi.from_url(f"{service_url}/docs.json", config=SchemathesisConfig())
    return {operation.label: operation for operation in (result.ok() for result in document.get_all_operations())}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests(operations, mode):
    for operation in operations.values():
        described = any("json" in body.media_type for body in operation.body)  # any bytes may be a file
        if mode == GenerationMode.NEGATIVE and not (described or operation.query or operation.headers):
            continue

        @SETTINGS
        @given(operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=30)

        check()


@pytest.fixture(scope="module")
def succeed(operations, card):
    """Send a request that has to succeed, with the model's name and version in its path."""
    names = {"model_name": card.name, "model_version": card.version}

    def send(label, media_type=None, **parts):
        path = {name: value for name, value in names.items() if f"{{{name}}}" in label}
        case = operations[label].Case(path_parameters=path, media_type=media_type, **parts)
        response = case.call_and_validate(checks=CHECKS, timeout=60)
        assert response.status_code == 200, response.text
        return response

    return send


@pytest.fixture(scope="module")
def images(card):
    return np.random.default_rng(0).normal(size=(2, *card.image.shape)).astype(np.float32).round(2)


@pytest.mark.parametrize("accept", PREDICTIONS)
def test_predictions(succeed, images, accept):
    body, headers = {"images": images.tolist(), "ebv": [None, 0.1], "pdf": True}, {"accept": accept}
    response = succeed("POST /predict", formats.JSON.media_type, body=body, headers=headers)
    assert response.headers["content-type"][0].startswith(accept)
    file = npz_bytes({"images": images})
    succeed("POST /predict_file", formats.NPZ.media_type, body=file, headers=headers, query={"pdf": True})


@pytest.mark.parametrize(
    ("accept", "query"),
    [
        (formats.JSON.media_type, {}),
        (formats.PNG.media_type, {"plot": "pit"}),
        (formats.SVG.media_type, {"plot": "pit"}),
    ],
)
def test_evaluations(succeed, card, accept, query):
    pdfs = np.random.default_rng(0).dirichlet(np.ones(card.grid.n_bins), 20)
    body = {"pdfs": pdfs.tolist(), "z_spec": np.linspace(0.05, 0.3, 20).tolist()}
    succeed("POST /evaluate", formats.JSON.media_type, body=body, headers={"accept": accept}, query=query)


@pytest.mark.parametrize("version", ["", "/versions/{model_version}"])
@pytest.mark.parametrize("binary", [True, False])
def test_inferences(succeed, images, binary, version):
    message = encode_request([Tensor.of("images", images)], binary=binary)
    label = f"POST /v2/models/{{model_name}}{version}/infer"
    if binary:
        succeed(label, OCTETS, body=message.body, headers={HEADER_LENGTH: str(message.header_length)})
    else:
        succeed(label, formats.JSON.media_type, body=json.loads(message.body), headers={})


def test_requests_without_a_body(operations, succeed):
    for label, operation in operations.items():
        if not operation.body:
            succeed(label)
