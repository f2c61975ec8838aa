"""The routes of the Open Inference Protocol in the OpenAPI document."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from photoz.protocol import contract
from photoz.protocol.open_inference import HEADER_LENGTH
from photoz.protocol.tensors import BYTES, NUMBERS
from service.formats.infer import INPUTS, OUTPUTS
from service.formats.negotiation import OCTETS

Document = dict[str, Any]

TAG = "Open Inference Protocol v2"
MODEL = "/v2/models/{model_name}"
VERSION = MODEL + "/versions/{model_version}"

TEXT = {"type": "string"}
PARAMETERS = {"type": "object", "description": "binary_data_size, binary_data, binary_data_output; others are ignored"}
BAD_REQUESTS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


def schemas() -> Document:
    """Return the JSON schemas of the messages."""
    tensors = {"type": "array", "items": {"$ref": "#/components/schemas/InferTensor"}}
    output = _object({"name": {"enum": list(OUTPUTS)}, "parameters": PARAMETERS}, "name")
    request = {"id": TEXT, "parameters": PARAMETERS, "inputs": tensors, "outputs": {"type": "array", "items": output}}
    response = {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": tensors}
    tensor = {
        "name": {"enum": list(dict.fromkeys((*INPUTS, *OUTPUTS)))},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"enum": [*NUMBERS, BYTES]},
        "parameters": PARAMETERS,
        "data": {"type": "array", "description": "flat or nested; none if binary_data_size tells of bytes"},
    }
    return {
        "InferTensor": _object(tensor, "name", "shape", "datatype"),
        "InferRequest": _object(request, "inputs"),
        "InferResponse": _object(response, "model_name", "outputs"),
    }


def paths() -> Document:
    """Return the operations by path."""
    found: Document = {
        "/v2": {"get": _operation("What the server is")},
        "/v2/health/live": {"get": _operation("Whether it lives")},
        "/v2/health/ready": {"get": _operation("Whether it can predict")},
        "/v2/repository/index": {"post": _operation("Which models there are")},
    }
    for prefix in (MODEL, VERSION):
        found[prefix] = {"get": _operation("What the model takes and gives", prefix)}
        found[f"{prefix}/ready"] = {"get": _operation("Whether the model can predict", prefix)}
        found[f"{prefix}/infer"] = {"post": _infer(prefix)}
    return found


def _infer(prefix: str) -> Document:
    header = {"name": HEADER_LENGTH, "in": "header", "schema": {"type": "integer"}}
    operation = _operation("Predict redshifts, with tensors as JSON or as the bytes behind it", prefix)
    operation["parameters"].append(header | {"description": "bytes of the JSON, where tensors follow it"})
    operation["requestBody"] = {"required": True, "content": _content("InferRequest")}
    operation["responses"]["200"]["content"] = _content("InferResponse")
    operation["responses"] |= _errors(BAD_REQUESTS)
    return operation


def _operation(summary: str, prefix: str = "") -> Document:
    names = [name for name in ("model_name", "model_version") if f"{{{name}}}" in prefix]
    ok = {"200": {"description": "The answer", "content": {contract.JSON: {}}}}
    return {
        "tags": [TAG],
        "summary": summary,
        "parameters": [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names],
        "responses": ok | _errors([HTTPStatus.NOT_FOUND] if names else []),  # of another model
    }


def _errors(statuses: Iterable[HTTPStatus]) -> Document:
    error = {contract.JSON: {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    return {str(int(status)): {"description": status.phrase, "content": error} for status in statuses}


def _content(schema: str) -> Document:
    return {
        contract.JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}},
        OCTETS: {"schema": {"type": "string", "format": "binary"}},
    }


def _object(properties: Document, *required: str) -> Document:
    return {"type": "object", "properties": properties, "required": list(required)}
