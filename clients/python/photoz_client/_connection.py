"""Send requests to one service, with retries, and translate the errors of httpx."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TypeVar, get_args

import httpx

from photoz.errors import InvalidInput
from photoz.estimates import Names
from photoz.io.formats import Format
from photoz.model.card import Card
from photoz.protocol.contract import EvaluateResponse
from photoz_client import _requests, _responses
from photoz_client._auth import ApiKeyAuth
from photoz_client._backends import Backend, Event
from photoz_client._body import Body
from photoz_client._errors import ConnectionFailed, PhotozClientError, RequestRefused, TimedOut, UnexpectedResponse
from photoz_client._inputs import Arrays, EvaluateInputs, WireDtype, as_float16
from photoz_client._local import LocalConnection
from photoz_client._prediction import Prediction
from photoz_client._requests import PreparedRequest
from photoz_client._retries import Retries

T = TypeVar("T")


@dataclass(eq=False, repr=False)
class ServiceConnection:
    """Sends requests to one photo-z service; for the arguments see `PhotozClient`."""

    base_url: str
    auth: ApiKeyAuth | None
    timeout: float | None
    retries: Retries
    in_flight: int
    wire_dtype: WireDtype
    backend: Backend

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise InvalidInput(f"expected in_flight of 1 or more, got {self.in_flight}")
        if self.wire_dtype not in get_args(WireDtype):
            raise InvalidInput(f"expected wire_dtype {' or '.join(get_args(WireDtype))}, got {self.wire_dtype!r}")
        self.base_url = _requests.check_url(self.base_url)
        self.address = _requests.redact_url(self.base_url)
        self._has_answered = False
        self._model_name: str | None = None

    async def predict(
        self,
        read: Callable[[], Arrays],
        object_id: Names,
        pdf: bool,
        first_row: int,
        stop: Event | None = None,
    ) -> Prediction:
        """Predict m cutouts with the names `object_id` (m,); `first_row` is the number of the first one's part."""

        def build(model: str) -> PreparedRequest:
            arrays = read()
            if self.wire_dtype == "float16" and arrays["images"].dtype.itemsize > 2:
                arrays["images"] = as_float16(arrays["images"])
            return _requests.predict_request(arrays, model, pdf, first_row)

        return await self.send_to_model(build, partial(_responses.parse_prediction, object_id=object_id), stop)

    async def evaluate(self, inputs: EvaluateInputs) -> EvaluateResponse:
        """Return the metrics."""
        parse = partial(_responses.parse_json, message=EvaluateResponse)
        return await self.send(partial(_requests.evaluate_request, inputs), parse)

    async def draw(self, inputs: EvaluateInputs, format: Format, params: Mapping[str, str]) -> bytes:
        """Return a report or a plot; `params` selects the plot."""
        request = partial(_requests.evaluate_request, inputs, format, params)
        return await self.send(request, lambda response: response.content)

    async def model(self) -> Card:
        """Return the card of the model."""
        return await self.send(lambda: _requests.MODEL_CARD, partial(_responses.parse_json, message=Card))

    async def check_ready(self, timeout: float) -> None:
        """Raise a `PhotozClientError` if the service is not ready to predict."""
        await self.send_once(_requests.READY, timeout)

    async def model_name(self, stop: Event | None = None) -> str:
        """Return the name of the service's model, requested only once."""
        name = self._model_name  # a local copy, since another thread may reset the attribute
        if name is None:
            index = _requests.MODEL_INDEX
            name = self._model_name = await self.send(lambda: index, _responses.parse_model_name, stop)
        return name

    async def send_to_model(
        self, build: Callable[[str], PreparedRequest], parse: Callable[[httpx.Response], T], stop: Event | None = None
    ) -> T:
        """Send a request built from the model's name; after a 404, send it once more with the current name."""
        name = await self.model_name(stop)
        try:
            return await self.send(partial(build, name), parse, stop)
        except RequestRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        if self._model_name == name:  # otherwise a concurrent request has already found the new name
            self._model_name = None
        return await self.send(partial(build, await self.model_name(stop)), parse, stop)

    async def send(
        self, build: Callable[[], PreparedRequest], parse: Callable[[httpx.Response], T], stop: Event | None = None
    ) -> T:
        """Send a request and parse the response; retry if it may help, unless `stop` is set; raise the last error."""
        request = await self.backend.offload(build)
        stop = stop or self.backend.event()
        attempt, waited = 0, 0.0
        while True:
            attempt += 1
            try:
                return parse(await self.send_once(request))
            except PhotozClientError as error:
                pause = self.retries.pause_after(error, attempt, waited, never_answered=not self._has_answered)
                if pause is None or stop.is_set():
                    raise
                await self.backend.sleep(pause, stop)
                if stop.is_set():
                    raise
                waited += pause

    async def send_once(self, request: PreparedRequest, timeout: float | None = None) -> httpx.Response:
        """Return a response of status 200; raise a `PhotozClientError` in place of any other."""
        timeout = self.timeout if timeout is None else timeout
        with _httpx_errors_translated(self.address, timeout):
            response = await self.backend.send(
                partial(Body, request=request, timeout=timeout),
                request.method,
                self.base_url + request.path,
                params=request.params,
                headers={**request.headers, "Accept-Encoding": "identity"},
                content=request.content,
                auth=self.auth or httpx.USE_CLIENT_DEFAULT,
                # The time until another request frees a connection does not count, so the pool has no limit.
                timeout=httpx.Timeout(timeout, pool=None),
            )
        self._has_answered = True
        return _responses.check_response(response, request)


Connection = ServiceConnection | LocalConnection


@contextmanager
def _httpx_errors_translated(base_url: str, timeout: float | None) -> Iterator[None]:
    """Raise a `PhotozClientError` in place of any httpx error."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut(f"no photoz service answers at {base_url} within {timeout:g} s") from error
    except httpx.TimeoutException as error:
        message = f"the service at {base_url} gave no answer within {timeout:g} s, the client's timeout"
        raise TimedOut(message) from error
    except httpx.LocalProtocolError:  # its message quotes the header, which may hold a key
        message = f"the request to {base_url} cannot be sent: check the headers of the given httpx client"
        raise ConnectionFailed(message) from None
    except httpx.TooManyRedirects as error:
        raise UnexpectedResponse(f"{base_url} redirects in a circle: is the URL right?") from error
    except httpx.ConnectError as error:
        raise ConnectionFailed(f"no photoz service answers at {base_url}: {_cause(error)}; is it running?") from error
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"the connection to {base_url} broke: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """Return the message of the operating system's error behind an error, if any, else the error's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
