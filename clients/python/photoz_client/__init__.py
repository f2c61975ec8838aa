"""Client of the photo-z service: arrays of galaxy cutouts in, redshift estimates as arrays out.

::

    with PhotozClient("http://127.0.0.1:3000") as client:
        prediction = client.predict(images, ebv=ebv)
    prediction.z_mean
"""

from photoz import __version__
from photoz.card import Card
from photoz.contract import EvaluateResponse
from photoz.errors import PhotozError
from photoz.estimates import Flag
from photoz_client._client import PhotozClient
from photoz_client._errors import (
    BadInput,
    ConnectionFailed,
    InvalidUrl,
    MissingExtra,
    NotAuthorised,
    PhotozClientError,
    RequestRefused,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    TryAgainLater,
    UnexpectedResponse,
)
from photoz_client._prediction import Prediction

__all__ = [
    "BadInput",
    "Card",
    "ConnectionFailed",
    "EvaluateResponse",
    "Flag",
    "InvalidUrl",
    "MissingExtra",
    "NotAuthorised",
    "PhotozClient",
    "PhotozClientError",
    "PhotozError",
    "Prediction",
    "RequestRefused",
    "ServiceBusy",
    "ServiceFailed",
    "ServiceUnavailable",
    "TimedOut",
    "TooLargeForService",
    "TryAgainLater",
    "UnexpectedResponse",
    "__version__",
]
