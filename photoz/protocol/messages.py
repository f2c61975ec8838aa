"""The JSON of the Open Inference Protocol v2, and its strict validation."""

import reprlib
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict  # which pydantic needs before Python 3.12

from photoz.errors import MalformedInput

MAX_NAME = 256  # characters
MAX_TENSORS = 64
MAX_DIMENSIONS = 8
MAX_LENGTH = 2**40

T = TypeVar("T")
Name = Annotated[str, Field(max_length=MAX_NAME)]
Shape = Annotated[list[Annotated[int, Field(ge=0, lt=MAX_LENGTH)]], Field(max_length=MAX_DIMENSIONS, fail_fast=True)]
Tensors = Annotated[list[T], Field(max_length=MAX_TENSORS, fail_fast=True)]


# Typed dictionaries: pydantic's models take three times as long. Keys of other extensions are ignored.


class TensorParameters(TypedDict, total=False):
    """Parameters of a tensor."""

    binary_data_size: Annotated[int, Field(ge=0)] | None


class TensorJson(TypedDict):
    """A tensor: its description, and its elements unless they are bytes after the JSON."""

    name: Name
    datatype: Literal[
        "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BYTES"
    ]
    shape: Shape
    parameters: NotRequired[TensorParameters | None]
    data: NotRequired[Any]


class OutputParameters(TypedDict, total=False):
    """Parameters of a requested output."""

    binary_data: bool
    classification: Any
    shared_memory_region: Any


class OutputJson(TypedDict):
    """A requested output."""

    name: Name
    parameters: NotRequired[OutputParameters | None]


class RequestParameters(TypedDict, total=False):
    """Parameters of a request."""

    binary_data_output: bool


class RequestJson(TypedDict):
    """A request."""

    inputs: Tensors[TensorJson]
    outputs: NotRequired[Tensors[OutputJson] | None]
    parameters: NotRequired[RequestParameters | None]
    id: NotRequired[str | None]


class ResponseJson(TypedDict):
    """A response."""

    outputs: Tensors[TensorJson]
    model_name: NotRequired[str | None]
    model_version: NotRequired[str | None]
    parameters: NotRequired[dict[str, Any] | None]
    id: NotRequired[str | None]


REQUEST, RESPONSE = TypeAdapter(RequestJson), TypeAdapter(ResponseJson)


def parse(message: TypeAdapter[T], content: bytes) -> T:
    """Decode and validate JSON; raises `MalformedInput` with the first problem."""
    try:
        # validate_json would hold the JSON twice: as its own tree and as Python objects.
        return message.validate_python(from_json(content), strict=True)
    except ValidationError as error:
        raise MalformedInput(_first_problem(error)) from error
    except ValueError as error:
        raise MalformedInput(f"the first {len(content)} bytes of the body are not JSON: {error}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "the JSON"
    message = f"{place}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
    if problem["type"] == "missing":
        return message
    value = reprlib.repr(problem["input"])  # stops after a few elements: the value may be most of the request
    return f"{message}, got {value if len(value) <= 80 else value[:77] + '...'}"
