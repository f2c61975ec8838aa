"""What can go wrong between a client and the service, drawn once.

::

    PhotozError
    └── PhotozClientError
        ├── InvalidUrl              not the address of anything
        ├── ConnectionFailed        nobody answers there, or the connection broke
        ├── TimedOut                no answer in time, also 504
        ├── RequestRefused          the service says no, and why; .status
        │   ├── BadInput            400, 422; an InvalidInput too, as if the core had raised it here
        │   ├── NotAuthorised       401, 403: no key, or not a good one
        │   ├── TooSlowForService   408: the upload took too long
        │   └── TooLargeForService  413
        ├── TryAgainLater           the same call may well succeed; .retry_after
        │   ├── ServiceBusy         429
        │   └── ServiceUnavailable  503, or 502 from a proxy: it starts, or it shuts down
        ├── ServiceFailed           another 5xx: not the caller's fault
        ├── UnexpectedResponse      whoever answered, it was not a photoz service
        ├── PredictionIncomplete    some rows failed, others did not; .failed, .prediction
        ├── NotTried                why a row in .failed has none: the service was given up before
        └── MissingExtra            an optional package is not installed

Input that this side notices to be wrong raises the core's own `InvalidInput`, so one `except InvalidInput` catches bad
input wherever it was noticed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import httpx
import numpy as np

from photoz.errors import InvalidInput, PhotozError
from photoz.grid import IntArray

if TYPE_CHECKING:
    from photoz_client._prediction import Prediction


class PhotozClientError(PhotozError):
    """Root of the client's errors."""


class InvalidUrl(PhotozClientError, ValueError):
    """A base URL without http:// or https://, or without a host."""


class ConnectionFailed(PhotozClientError, ConnectionError):
    """Nobody answers at the URL, or the connection broke."""


class TimedOut(PhotozClientError, TimeoutError):
    """The answer did not come in time."""


class RequestRefused(PhotozClientError):
    """The service refused the request.

    Parameters
    ----------
    status : int
        HTTP status, 4xx.
    message : str
        The service's own sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


class BadInput(RequestRefused, InvalidInput):
    """The service cannot use the input; its sentence says what it found and what it expected."""


class NotAuthorised(RequestRefused):
    """The service, or a proxy before it, wants a key that was not given or is not valid."""


class TooSlowForService(RequestRefused):
    """The request took longer to arrive than the service, or a proxy before it, waits; fewer at once have more room."""


class TooLargeForService(RequestRefused):
    """One request went over a limit of the service, or of a proxy before it."""


class TryAgainLater(PhotozClientError):
    """The service cannot take the call now; nothing is wrong with the call.

    Parameters
    ----------
    message : str
        What it said.
    retry_after : float or None
        Seconds after which it asks to be called again; None where it names none.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after)
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class ServiceBusy(TryAgainLater):
    """The service has as much to do as it takes on."""


class ServiceUnavailable(TryAgainLater):
    """The service is starting or shutting down."""


class ServiceFailed(PhotozClientError):
    """The service, or a proxy before it, failed; the request may be fine."""


class UnexpectedResponse(PhotozClientError):
    """An answer that no photoz service gives, or one of another version."""


class NotTried(PhotozClientError):
    """Rows that were not sent, since the rows before had failed in a way that these would have too."""


class FailedRows(NamedTuple):
    """Rows without a prediction and the reason.

    Attributes
    ----------
    rows : sequence of int
        Counted from the caller's first, 0.
    error : Exception
        What went wrong: a `PhotozError`, or an `OSError` from reading a file.
    """

    rows: Sequence[int]
    error: Exception


class PredictionIncomplete(PhotozClientError):
    """Some rows have no prediction; those of the others are not lost.

    Parameters
    ----------
    n : int
        Number of rows that were to be predicted.
    failed : tuple of FailedRows
        Which rows failed, and why.
    prediction : Prediction or None
        Estimates of all other rows, in order; None where they were handed out before, part by part.
    """

    def __init__(self, n: int, failed: "tuple[FailedRows, ...]", prediction: "Prediction | None" = None) -> None:
        super().__init__(n, failed, prediction)
        self.n = n
        self.failed = failed
        self.prediction = prediction

    def __str__(self) -> str:
        n_failed = sum(len(rows) for rows, _ in self.failed)
        reasons = [f"{_places(rows)}: {error}" for rows, error in self.failed[:3]]
        more = ["..."] if len(self.failed) > 3 else []
        return f"{n_failed:,} of {self.n:,} cutouts have no prediction; " + "; ".join(reasons + more)

    @property
    def failed_rows(self) -> IntArray:
        """Numbers of the rows without a prediction, shape (m,), in order."""
        return np.sort(np.concatenate([np.asarray(rows, dtype=np.int64) for rows, _ in self.failed]))

    @property
    def rows(self) -> IntArray:
        """Numbers of the rows with one, shape (n - m,), in order: those of `prediction`."""
        return np.setdiff1d(np.arange(self.n), self.failed_rows, assume_unique=True)


def _places(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"cutout {rows[0]}"
    if rows[-1] - rows[0] == len(rows) - 1:
        return f"cutouts {rows[0]} to {rows[-1]}"
    return f"cutouts {', '.join(map(str, rows[:5]))}" + (", ..." if len(rows) > 5 else "")


class MissingExtra(PhotozClientError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


@contextmanager
def httpx_errors_translated(base_url: str, timeout: float | None) -> Iterator[None]:
    """Turn every error of httpx into one of this tree: the only place where that is done.

    Parameters
    ----------
    base_url : str
        Of the service, for the message.
    timeout : float or None
        The time limit in seconds, for the message.

    Yields
    ------
    None
        The block that speaks HTTP.

    Raises
    ------
    TimedOut, ConnectionFailed, UnexpectedResponse
        In place of what httpx raised, which is its cause.
    """
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut(f"no photoz service answers at {base_url} within {timeout:g} s") from error
    except httpx.TimeoutException as error:
        message = f"the service at {base_url} gave no answer within {timeout:g} s, the client's timeout"
        raise TimedOut(message) from error
    except httpx.LocalProtocolError:  # it quotes the header that it cannot send, which may be a key: no word of it
        message = f"the request to {base_url} cannot be put into HTTP; are the headers of the given client good ones?"
        raise ConnectionFailed(message) from None
    except httpx.TooManyRedirects as error:
        raise UnexpectedResponse(f"{base_url} leads round in a circle: is the URL right?") from error
    except httpx.ConnectError as error:
        raise ConnectionFailed(f"no photoz service answers at {base_url}: {_reason(error)}; is it running?") from error
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"the connection to {base_url} broke: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Say why, in the words of the operating system if they stand behind the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
