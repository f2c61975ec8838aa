"""The OpenAPI document."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from photoz import __version__
from photoz.io import formats
from photoz.model.card import Card
from photoz.protocol import contract, messages
from photoz.protocol.open_inference import HEADER_LENGTH
from service.formats.negotiation import EVALUATIONS, FILE_TYPES, OCTETS, PREDICTIONS, TABLES

Document = dict[str, Any]
Schemas = Mapping[str, str | None]  # media type -> name of the schema, None for bytes

DESCRIPTION = "Photometric redshifts: galaxy cutouts in, redshift PDFs and their summaries out."
SCHEMAS = "#/components/schemas/{model}"

FILES: Schemas = dict.fromkeys(FILE_TYPES)
ESTIMATES: Schemas = dict.fromkeys(PREDICTIONS) | {formats.JSON.media_type: "PredictResponse"}
TABLE: Schemas = dict.fromkeys(TABLES) | {formats.JSON.media_type: "SharedTable"}
CUTOUTS: Schemas = {formats.NPZ.media_type: None}
EVALUATION: Schemas = dict.fromkeys(EVALUATIONS) | {formats.JSON.media_type: "EvaluateResponse"}

# Path -> what it does, what goes in, what comes out, and the query options.
APIS: Mapping[str, tuple[str, Schemas, Schemas, type[BaseModel] | None]] = {
    "/predict": ("Predict redshifts of cutouts in JSON", {formats.JSON.media_type: "PredictRequest"}, ESTIMATES, None),
    "/predict_file": ("Predict redshifts of cutouts in a file", FILES, ESTIMATES, contract.PredictOptions),
    "/cutouts": ("Convert a file to a .npz file in the layout of the model", FILES, CUTOUTS, None),
    "/table": ("Write estimates of a .npz file in another format", FILES, TABLE, contract.TableOptions),
    "/sky": (
        "Cut out a position on the sky of an archive, if the operator allows it",
        {formats.JSON.media_type: "SkyRequest"},
        CUTOUTS,
        None,
    ),
    "/evaluate": (
        "Compare redshifts with true ones: metrics, a plot, or a report",
        {formats.JSON.media_type: "EvaluateRequest", **FILES},
        EVALUATION,
        contract.EvaluateOptions,
    ),
}

# Method and path of operations without a body -> what they do, and the schema of the answer if it is JSON.
OTHERS: Mapping[tuple[str, str], tuple[str, Schemas]] = {
    ("get", "/livez"): ("Whether the service is alive", {}),
    ("get", "/healthz"): ("Whether the service is alive", {}),
    ("get", "/readyz"): ("Whether the service is ready", {}),
    ("get", "/metrics"): ("Metrics in the text format of Prometheus", {}),
    ("get", "/model"): ("What the model is", {formats.JSON.media_type: "Card"}),
    ("get", "/table/{name}"): ("A table that was shared", dict.fromkeys(TABLES)),
    ("get", "/v2"): ("What the server is", {}),
    ("get", "/v2/health/live"): ("Whether the server is alive", {}),
    ("get", "/v2/health/ready"): ("Whether the server is ready", {}),
    ("post", "/v2/repository/index"): ("Which models there are", {}),
    ("get", "/v2/models/{model_name}"): ("What the model takes and gives", {}),
    ("get", "/v2/models/{model_name}/ready"): ("Whether the model is ready", {}),
    ("get", "/v2/models/{model_name}/versions/{model_version}"): ("What the model takes and gives", {}),
    ("get", "/v2/models/{model_name}/versions/{model_version}/ready"): ("Whether the model is ready", {}),
}

INFER_PATHS = ("/v2/models/{model_name}/infer", "/v2/models/{model_name}/versions/{model_version}/infer")

MODELS = (
    *(contract.PredictRequest, contract.PredictResponse, contract.SkyRequest, contract.EvaluateRequest),
    *(contract.EvaluateResponse, contract.SharedTable, contract.ErrorResponse, Card),
)

# Error statuses: of the middleware, at any path; of bodies; of inference; of an archive.
ANYWHERE = (401, 403, 408, 413, 421, 429, 431, 500, 503, 504)
BODIES, INFERENCE, ARCHIVE = (400, 406, 415, 422), (400, 415), (404, 502)


def document() -> Document:
    """Return the document: OpenAPI 3.1, the version of pydantic's JSON schemas."""
    paths: Document = {}
    for (method, path), (summary, answers) in OTHERS.items():
        paths[path] = {method: _operation(path, summary, {}, answers)}
    for path, (summary, bodies, answers, options) in APIS.items():
        statuses = (*BODIES, *ARCHIVE) if path == "/sky" else BODIES
        paths[path] = {"post": _operation(path, summary, bodies, answers, statuses, options)}
    for path in INFER_PATHS:
        request, response = ({formats.JSON.media_type: f"{name}Json", OCTETS: None} for name in ("Request", "Response"))
        operation = _operation(
            path, "Predict redshifts, with tensors as JSON or as bytes", request, response, INFERENCE
        )
        header = {"name": HEADER_LENGTH, "in": "header", "schema": {"type": "integer"}}
        operation["parameters"].append(header | {"description": "bytes of the JSON, if tensors follow it"})
        paths[path] = {"post": operation}
    _, definitions = models_json_schema([(model, "serialization") for model in MODELS], ref_template=SCHEMAS)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Photoz", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": definitions["$defs"] | _inference_schemas()},
    }


def _inference_schemas() -> Document:
    schemas: Document = {}
    for adapter in (messages.REQUEST, messages.RESPONSE):
        schema = adapter.json_schema(ref_template=SCHEMAS)
        schemas |= schema.pop("$defs") | {schema["title"]: schema}
    return schemas


def _operation(
    path: str,
    summary: str,
    bodies: Schemas,
    answers: Schemas,
    statuses: Iterable[int] = (),
    options: type[BaseModel] | None = None,
) -> Document:
    in_path = [name for name in ("name", "model_name", "model_version") if f"{{{name}}}" in path]
    error = _content({formats.JSON.media_type: "ErrorResponse"})
    properties = options.model_json_schema()["properties"] if options else {}
    operation = {
        "tags": ["Open Inference Protocol v2" if path.startswith("/v2") else "Service"],
        "summary": summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path),
            *({"name": name, "in": "query", "schema": schema} for name, schema in properties.items()),
        ],
        "responses": {"200": {"description": "The answer", "content": _content(answers)}}
        | {
            str(status): {"description": HTTPStatus(status).phrase, "content": error}
            for status in (*ANYWHERE, *statuses, *((404,) if in_path else ()))
        },
    }
    return operation | ({"requestBody": {"required": True, "content": _content(bodies)}} if bodies else {})


def _content(schemas: Schemas) -> Document:
    return {
        media_type: {"schema": {"$ref": SCHEMAS.format(model=name)} if name else {"type": "string", "format": "binary"}}
        for media_type, name in schemas.items()
    }
