"""The errors of the client.

::

    PhotozError
    └── PhotozClientError
        ├── InvalidUrl              the base URL is not an http(s) URL
        ├── ConnectionFailed        no connection to the service, or it broke
        ├── TimedOut                no response in time, also 504
        ├── RequestRefused          any other 4xx; .status
        │   ├── BadInput            400, 422; also an InvalidInput of the core
        │   ├── NotAuthorised       401, 403: the API key is missing or not valid
        │   ├── TooSlowForService   408: the upload took too long
        │   └── TooLargeForService  413
        ├── TryAgainLater           the same call may succeed later; .retry_after
        │   ├── ServiceBusy         429
        │   └── ServiceUnavailable  503, or 502 from a proxy: the service is starting or shutting down
        ├── ServiceFailed           any other 5xx: not the caller's fault
        ├── UnexpectedResponse      the response does not come from a photo-z service
        ├── PredictionIncomplete    some rows failed, others did not; .failed, .prediction
        ├── NotTried                rows in .failed that were not sent
        └── MissingExtra            an optional package is not installed

Bad input that the client detects raises the core's `InvalidInput`, so that `except InvalidInput` catches bad input
whether the client or the service detects it.
"""

from photoz.errors import InvalidInput, PhotozError

__all__ = [
    "BadInput",
    "ConnectionFailed",
    "InvalidUrl",
    "MissingExtra",
    "NotAuthorised",
    "NotTried",
    "PhotozClientError",
    "RequestRefused",
    "ServiceBusy",
    "ServiceFailed",
    "ServiceUnavailable",
    "TimedOut",
    "TooLargeForService",
    "TooSlowForService",
    "TryAgainLater",
    "UnexpectedResponse",
]


class PhotozClientError(PhotozError):
    """Base class of the client's errors."""


class InvalidUrl(PhotozClientError, ValueError):
    """A base URL without http:// or https://, or without a host."""


class ConnectionFailed(PhotozClientError, ConnectionError):
    """No connection to the service could be made, or the connection broke."""


class TimedOut(PhotozClientError, TimeoutError):
    """The response did not arrive in time."""


class RequestRefused(PhotozClientError):
    """The service refused the request. `status` is the HTTP status, 4xx; `message` is the service's error message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


class BadInput(RequestRefused, InvalidInput):
    """The service cannot use the input; its message says what was found and what was expected."""


class NotAuthorised(RequestRefused):
    """The service, or a proxy in front of it, requires an API key that was not given or is not valid."""


class TooSlowForService(RequestRefused):
    """The upload took longer than the service, or a proxy in front of it, allows; fewer requests in flight may help."""


class TooLargeForService(RequestRefused):
    """One request exceeded a limit of the service, or of a proxy in front of it."""


class TryAgainLater(PhotozClientError):
    """The service cannot take the request now; nothing is wrong with the request.

    `retry_after` is the Retry-After of the response in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after)
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class ServiceBusy(TryAgainLater):
    """The service already handles as many requests as it accepts."""


class ServiceUnavailable(TryAgainLater):
    """The service is starting or shutting down."""


class ServiceFailed(PhotozClientError):
    """The service, or a proxy in front of it, failed; the request may be correct."""


class UnexpectedResponse(PhotozClientError):
    """The response does not come from a photo-z service, or comes from an incompatible version."""


class NotTried(PhotozClientError):
    """Rows that were not sent, because earlier rows failed in a way that would affect these too."""


class MissingExtra(PhotozClientError, ImportError):
    """An optional package is not installed; the message names the extra that installs it."""
