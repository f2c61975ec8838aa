"""The real service against its own OpenAPI document: every answer to whatever the document allows is in it."""

import json

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.config import SchemathesisConfig

from photoz.io.npz import npz_bytes
from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor
from service.decode import OCTETS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# What holds whatever was sent. That all which the document allows is taken does not: it cannot say that a batch has as
# many names as images, or that all rows are of one length.
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@schemathesis.serializer(OCTETS, contract.NPY, contract.NPZ)
def bytes_as_they_are(ctx, value):
    return value if isinstance(value, bytes) else getattr(value, "data", str(value).encode())


@pytest.fixture(scope="module")
def document(service_url):
    return schemathesis.openapi.from_url(f"{service_url}/docs.json", config=SchemathesisConfig())


@pytest.fixture(scope="module")
def operations(document):
    return {operation.label: operation for operation in (result.ok() for result in document.get_all_operations())}


SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def attack(operation, mode):
    @SETTINGS
    @given(operation.as_strategy(generation_mode=mode))
    def answer(case):
        case.call_and_validate(checks=CHECKS, timeout=30)

    answer()


def test_every_answer_is_one_that_the_document_allows(operations):
    for operation in operations.values():
        attack(operation, GenerationMode.POSITIVE)


def test_what_the_document_does_not_allow_is_answered_as_it_says_too(operations):
    for operation in operations.values():
        if operation.body or operation.query or operation.headers:  # else there is nothing to be wrong
            attack(operation, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def cutouts(card):
    return np.random.default_rng(0).normal(size=(2, *card.image.shape)).astype(np.float32).round(2)


def answered(operation, **request):
    response = operation.Case(**request).call_and_validate(checks=CHECKS, timeout=60)
    assert response.status_code == 200, response.text
    return response


ACCEPTED = {
    "POST /predict": (contract.JSON, contract.CSV, contract.NPZ),
    "POST /evaluate": (contract.JSON, contract.PNG, contract.SVG),
}


@pytest.mark.parametrize("media_type", ACCEPTED["POST /predict"])
def test_predictions_are_what_the_document_says(operations, cutouts, media_type):
    body = {"images": cutouts.tolist(), "ebv": [None, 0.1], "pdf": True}
    headers = {"accept": media_type}
    answer = answered(operations["POST /predict"], body=body, media_type=contract.JSON, headers=headers)
    assert answer.headers["content-type"][0].startswith(media_type)
    file = npz_bytes({"images": cutouts})
    answered(operations["POST /predict_file"], body=file, media_type=contract.NPZ, headers=headers, query={"pdf": True})


@pytest.mark.parametrize("media_type", ACCEPTED["POST /evaluate"])
def test_evaluations_are_what_the_document_says(operations, card, media_type):
    pdfs = np.random.default_rng(0).dirichlet(np.ones(card.grid.n_bins), 20)
    body = {"pdfs": pdfs.tolist(), "z_spec": np.linspace(0.05, 0.3, 20).tolist()}
    query = {} if media_type == contract.JSON else {"plot": "pit"}
    answered(
        operations["POST /evaluate"],
        body=body,
        media_type=contract.JSON,
        headers={"accept": media_type},
        query=query,
    )


@pytest.mark.parametrize("binary", [True, False])
def test_inferences_are_what_the_document_says(operations, card, cutouts, binary):
    message = encode_request([Tensor.of("images", cutouts)], binary=binary)
    headers = {HEADER_LENGTH: str(message.header_length)} if binary else {}
    names = {"model_name": card.name, "model_version": card.version}
    for label in ("POST /v2/models/{model_name}/infer", "POST /v2/models/{model_name}/versions/{model_version}/infer"):
        media_type = OCTETS if binary else contract.JSON
        body = message.body if binary else json.loads(message.body)
        path = {name: value for name, value in names.items() if f"{{{name}}}" in label}
        answered(operations[label], path_parameters=path, body=body, media_type=media_type, headers=headers)


def test_what_is_asked_without_a_body_is_what_the_document_says(operations, card):
    names = {"model_name": card.name, "model_version": card.version}
    for label, operation in operations.items():
        if not operation.body:
            path = {name: value for name, value in names.items() if f"{{{name}}}" in label}
            answered(operation, path_parameters=path)
