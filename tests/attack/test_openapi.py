"""Every response of the service conforms to its OpenAPI document, for valid and invalid requests."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from photoz.io import formats
from photoz.io.npz import npz_bytes
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor
from service.formats.negotiation import FILE_TYPES, OCTETS, PREDICTIONS

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: make acceptance installs it")
pytestmark = pytest.mark.acceptance

# The document cannot say that a batch has as many names as images: valid requests may be refused, too.
CONFORMANCE = [
    getattr(schemathesis.checks, f"{n}_conformance") for n in ("status_code", "content_type", "response_schema")
]
CHECKS = {"checks": [schemathesis.checks.not_a_server_error, *CONFORMANCE], "timeout": 60}
RUN = {"max_examples": 40, "deadline": None, "derandomize": True, "database": None}
RUN |= {"phases": [Phase.explicit, Phase.generate], "suppress_health_check": list(HealthCheck)}


@schemathesis.serializer(*FILE_TYPES)
def raw_bytes(ctx, value):
    return value if isinstance(value, bytes) else getattr(value, "data", str(value).encode())


@pytest.fixture(scope="module")
def operations(service_url):
    config = schemathesis.config.SchemathesisConfig()
    document = schemathesis.openapi.from_url(f"{service_url}/docs.json", config=config)
    return {operation.label: operation for operation in (result.ok() for result in document.get_all_operations())}


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_generated_requests(operations, mode):
    for operation in operations.values():
        described = any("json" in body.media_type for body in operation.body)  # any bytes may be a file
        if mode.is_negative and not (described or operation.query or operation.headers):
            continue

        @settings(**RUN)
        @given(operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(**CHECKS)

        check()


def test_well_formed_requests(operations, card):
    names = {"model_name": card.name, "model_version": card.version}

    def succeed(label, media_type=None, **parts):
        path = {name: value for name, value in names.items() if f"{{{name}}}" in label}
        case = operations[label].Case(path_parameters=path, media_type=media_type, **parts)
        response = case.call_and_validate(**CHECKS)
        assert response.status_code == 200, response.text
        return response

    images = np.random.default_rng(0).normal(size=(2, *card.image.shape)).astype(np.float32).round(2)
    file = npz_bytes({"images": images})
    for accept in PREDICTIONS:
        body, headers = {"images": images.tolist(), "ebv": [None, 0.1], "pdf": True}, {"accept": accept}
        response = succeed("POST /predict", formats.JSON.media_type, body=body, headers=headers)
        assert response.headers["content-type"][0].startswith(accept)
        succeed("POST /predict_file", formats.NPZ.media_type, body=file, headers=headers, query={"pdf": True})
    body = {"pdfs": np.ones((20, card.grid.n_bins)).tolist(), "z_spec": np.linspace(0.05, 0.3, 20).tolist()}
    for format, query in ((formats.JSON, {}), (formats.PNG, {"plot": "pit"}), (formats.SVG, {"plot": "pit"})):
        headers = {"accept": format.media_type}
        succeed("POST /evaluate", formats.JSON.media_type, body=body, headers=headers, query=query)
    for version in ("", "/versions/{model_version}"):
        label = f"POST /v2/models/{{model_name}}{version}/infer"
        message, text = (encode_request([Tensor.of("images", images)], binary=binary) for binary in (True, False))
        succeed(label, OCTETS, body=message.body, headers={HEADER_LENGTH: str(message.header_length)})
        succeed(label, formats.JSON.media_type, body=json.loads(text.body), headers={})
    table, headers = npz_bytes({"object_id": np.arange(2)}), {"accept": formats.VOTABLE.media_type}
    shared = succeed("POST /table", formats.NPZ.media_type, body=table, headers=headers, query={"share": True})
    names["name"] = shared.json()["path"].removeprefix("table/")
    for label, operation in operations.items():
        if not operation.body:
            succeed(label)
