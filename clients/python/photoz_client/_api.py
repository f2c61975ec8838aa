"""The public names of `photoz_client`, imported at first use so that the command `photoz` starts quickly."""

from photoz import __version__
from photoz.errors import PhotozError
from photoz.flags import Flag
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client import _errors
from photoz_client._client import AsyncPhotozClient, LocalClient, PhotozClient
from photoz_client._errors import *  # noqa: F403
from photoz_client._prediction import FailedRows, Prediction, PredictionIncomplete
from photoz_client._retries import Retries

__all__ = [
    "AsyncPhotozClient",
    "Card",
    "EvaluateResponse",
    "FailedRows",
    "Flag",
    "LocalClient",
    "PhotozClient",
    "PhotozError",
    "Prediction",
    "PredictionIncomplete",
    "Retries",
    "__version__",
]
__all__ += _errors.__all__
