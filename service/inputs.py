"""How BentoML hands a request to an endpoint: as it came.

BentoML would take the body apart by its Content-Type: forms into fields, all unknown types as JSON, on the event loop.
Here the endpoints get the bytes, decode them in a thread, and say themselves what is wrong with them.
"""

from typing import Any, ClassVar

import bentoml
from pydantic import BaseModel
from starlette.requests import Request

from photoz.protocol import contract
from service.call import Call


class RawInput(bentoml.IODescriptor):
    """A BentoML input that reads nothing into the request; the schema is for the documentation alone."""

    call: Any
    documented: ClassVar[dict[str, Any] | type[BaseModel]] = {"type": "string", "format": "binary"}

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> "RawInput":
        """Take the request over, whatever its Content-Type."""
        return cls.model_construct(call=await Call.receive(request))

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Describe the body as users know it."""
        documented = cls.documented
        return dict(documented) if isinstance(documented, dict) else documented.model_json_schema(*args, **kwargs)

    @classmethod
    def mime_type(cls) -> str:
        """Name the media type of the documentation."""
        return "application/octet-stream" if isinstance(cls.documented, dict) else contract.JSON


class FileInput(RawInput):
    """The bytes of a file."""


class PredictInput(RawInput):
    """The JSON of `/predict`."""

    documented = contract.PredictRequest


class EvaluateInput(RawInput):
    """The JSON of `/evaluate`."""

    documented = contract.EvaluateRequest
