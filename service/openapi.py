"""The OpenAPI document: BentoML writes the skeleton, this adds what BentoML has no words for.

That is: query options, the other media types of bodies and answers, the statuses of errors, `GET /model`, and `/v2`.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from photoz import __version__
from photoz.protocol import contract
from service import decode
from service.v2 import document as v2_document

Document = dict[str, Any]
Content = Mapping[str, type[BaseModel] | None]  # None: bytes

SCHEMAS = "#/components/schemas/{model}"

FILES: Content = {decode.OCTETS: None, contract.NPY: None, contract.NPZ: None}
ESTIMATES: Content = {contract.JSON: contract.PredictResponse, contract.CSV: None, contract.NPZ: None}
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
    "/evaluate": (
        {contract.JSON: contract.EvaluateRequest, decode.OCTETS: None, contract.NPZ: None},
        EVALUATIONS,
        contract.EvaluateOptions,
    ),
}
MODELS = (
    contract.PredictRequest,
    contract.PredictResponse,
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

# What stands before the endpoints answers any request so, whatever it asks for.
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
    """Complete BentoML's OpenAPI document.

    Parameters
    ----------
    skeleton : dict
        As BentoML makes it; left as it was.
    description : str
        What the service does.

    Returns
    -------
    dict
        OpenAPI 3.1, the version whose schemas are the ones that pydantic writes.
    """
    paths = dict(skeleton["paths"])
    for path, (bodies, answers, options) in ENDPOINTS.items():
        paths[path] = {"post": paths[path]["post"] | _operation(bodies, answers, options)}
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
        "paths": {path: _guarded(operations) for path, operations in (paths | v2_document.paths()).items()},
        "components": {"schemas": definitions["$defs"] | v2_document.schemas()},
    }


def _operation(bodies: Content, answers: Content, options: type[BaseModel] | None) -> Document:
    ok = {"description": "Chosen by the Accept header", "content": _content(answers)}
    return {
        "parameters": _parameters(options) if options else [],
        "requestBody": {"required": True, "content": _content(bodies)},
        "responses": {"200": ok} | _errors(ERRORS),
    }


def _guarded(operations: Document) -> Document:
    """Add to the operations of a path what any of them may answer."""
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
