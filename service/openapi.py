"""The OpenAPI document: BentoML's, completed.

BentoML's lacks query options, media types other than one for each endpoint, error statuses, `GET /model` and `/v2`.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from photoz import __version__
from photoz.protocol import contract
from service import openapi_v2
from service.formats.negotiation import FILE_TYPES, FORM, PREDICTIONS

Document = dict[str, Any]
Content = Mapping[str, type[BaseModel] | None]  # None: bytes

SCHEMAS = "#/components/schemas/{model}"

FILES: Content = dict.fromkeys(name for name in FILE_TYPES if name not in ("", FORM))
ESTIMATES: Content = {
    media_type: contract.PredictResponse if media_type == contract.JSON else None for media_type in PREDICTIONS
}
EVALUATIONS: Content = {
    contract.JSON: contract.EvaluateResponse,
    contract.HTML: None,
    contract.PNG: None,
    contract.SVG: None,
}

# Path -> what goes in, what comes out, and the query options.
ENDPOINTS: Mapping[str, tuple[Content, Content, type[BaseModel] | None]] = {
    "/predict": ({contract.JSON: contract.PredictRequest}, ESTIMATES, None),
    "/predict_file": (FILES, ESTIMATES, contract.PredictOptions),
    "/cutouts": (FILES, {contract.NPZ: None}, None),
    "/sky": ({contract.JSON: contract.SkyRequest}, {contract.NPZ: None}, None),
    "/evaluate": (
        {contract.JSON: contract.EvaluateRequest} | FILES,
        EVALUATIONS,
        contract.EvaluateOptions,
    ),
}
MODELS = (
    contract.PredictRequest,
    contract.PredictResponse,
    contract.SkyRequest,
    contract.EvaluateRequest,
    contract.EvaluateResponse,
    contract.ErrorResponse,
    contract.ModelResponse,
)

ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)

# Error statuses of the middleware, at any path.
ANYWHERE = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def document(skeleton: Document, description: str) -> Document:
    """Complete BentoML's OpenAPI document, `skeleton`, which is not modified.

    The result is OpenAPI 3.1, the version of pydantic's JSON schemas.
    """
    paths = dict(skeleton["paths"])
    for path, (bodies, answers, options) in ENDPOINTS.items():
        paths[path] = {"post": paths[path]["post"] | _operation(bodies, answers, options)}
    paths["/sky"]["post"]["responses"] |= _errors((HTTPStatus.NOT_FOUND, HTTPStatus.BAD_GATEWAY))
    ok = {"description": "The model card", "content": _content({contract.JSON: contract.ModelResponse})}
    paths["/model"] = {"get": {"tags": ["Service APIs"], "summary": "What the model is", "responses": {"200": ok}}}
    _, definitions = models_json_schema([(model, "serialization") for model in MODELS], ref_template=SCHEMAS)
    return skeleton | {
        "openapi": "3.1.0",
        "info": {
            "title": skeleton["info"]["title"],
            "version": __version__,
            "description": description,
        },
        "paths": {
            path: _with_middleware_errors(operations) for path, operations in (paths | openapi_v2.paths()).items()
        },
        "components": {"schemas": definitions["$defs"] | openapi_v2.schemas()},
    }


def _operation(bodies: Content, answers: Content, options: type[BaseModel] | None) -> Document:
    ok = {"description": "Chosen by the Accept header", "content": _content(answers)}
    return {
        "parameters": _parameters(options) if options else [],
        "requestBody": {"required": True, "content": _content(bodies)},
        "responses": {"200": ok} | _errors(ERRORS),
    }


def _with_middleware_errors(operations: Document) -> Document:
    """Add the error statuses of the middleware to the operations of a path."""
    return {
        method: operation | {"responses": _errors(ANYWHERE) | operation["responses"]}
        for method, operation in operations.items()
    }


def _errors(statuses: Iterable[HTTPStatus]) -> Document:
    error = {"content": _content({contract.JSON: contract.ErrorResponse})}
    return {str(int(status)): {"description": status.phrase, **error} for status in statuses}


def _content(content: Content) -> Document:
    return {media_type: {"schema": _schema(model)} for media_type, model in content.items()}


def _schema(model: type[BaseModel] | None) -> Document:
    return {"$ref": SCHEMAS.format(model=model.__name__)} if model else {"type": "string", "format": "binary"}


def _parameters(options: type[BaseModel]) -> list[Document]:
    return [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        for name, schema in options.model_json_schema()["properties"].items()
    ]
