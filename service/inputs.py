"""The inputs of the endpoints as BentoML knows them: the request itself, and a schema for the documentation."""

from typing import Any, ClassVar

import bentoml
from pydantic import BaseModel
from starlette.requests import Request as StarletteRequest

from photoz.protocol import contract
from service.request import KEY


class RawInput(bentoml.IODescriptor):
    """A BentoML input that is the request itself.

    BentoML would decode the body by its Content-Type on the event loop, unknown types as JSON. The endpoints decode it
    themselves, in threads; the schema is for the documentation only.
    """

    request: Any
    documented: ClassVar[dict[str, Any] | type[BaseModel]] = {"type": "string", "format": "binary"}

    @classmethod
    async def from_http_request(cls, request: StarletteRequest, serde: Any) -> "RawInput":
        """Return the request that the middleware has received."""
        return cls.model_construct(request=request.scope[KEY])

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema of the body for the documentation."""
        documented = cls.documented
        return dict(documented) if isinstance(documented, dict) else documented.model_json_schema(*args, **kwargs)

    @classmethod
    def mime_type(cls) -> str:
        """Return the media type of the body for the documentation."""
        return "application/octet-stream" if isinstance(cls.documented, dict) else contract.JSON


class FileInput(RawInput):
    """The bytes of a file."""


class PredictInput(RawInput):
    """The JSON of `/predict`."""

    documented = contract.PredictRequest


class SkyInput(RawInput):
    """The JSON of `/sky`."""

    documented = contract.SkyRequest


class EvaluateInput(RawInput):
    """The JSON of `/evaluate`."""

    documented = contract.EvaluateRequest
