"""The public names of `photoz_client`, imported at first use so that the command `photoz` starts quickly."""

from photoz import __version__
from photoz.errors import PhotozError
from photoz.flags import Flag
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client._client import AsyncPhotozClient, PhotozClient
from photoz_client._errors import (
    BadInput,
    ConnectionFailed,
    InvalidUrl,
    MissingExtra,
    NotAuthorised,
    NotTried,
    PhotozClientError,
    RequestRefused,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    TooSlowForService,
    TryAgainLater,
    UnexpectedResponse,
)
from photoz_client._prediction import FailedRows, Prediction, PredictionIncomplete
from photoz_client._retries import Retries

__all__ = [
    "AsyncPhotozClient",
    "BadInput",
    "Card",
    "ConnectionFailed",
    "EvaluateResponse",
    "FailedRows",
    "Flag",
    "InvalidUrl",
    "MissingExtra",
    "NotAuthorised",
    "NotTried",
    "PhotozClient",
    "PhotozClientError",
    "PhotozError",
    "Prediction",
    "PredictionIncomplete",
    "RequestRefused",
    "Retries",
    "ServiceBusy",
    "ServiceFailed",
    "ServiceUnavailable",
    "TimedOut",
    "TooLargeForService",
    "TooSlowForService",
    "TryAgainLater",
    "UnexpectedResponse",
    "__version__",
]
