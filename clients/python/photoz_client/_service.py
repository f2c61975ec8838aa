"""The service as it is seen from here: asked until it answers or patience ends."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import httpx

from photoz.errors import InvalidInput
from photoz_client import _requests, _responses
from photoz_client._errors import PhotozClientError, RequestRefused, httpx_errors_translated
from photoz_client._io import Io, Stop
from photoz_client._keys import KeyAuth
from photoz_client._requests import Call
from photoz_client._retries import Retries

T = TypeVar("T")


class Service:
    """One photo-z service.

    Parameters
    ----------
    base_url : str
        Such as "http://127.0.0.1:3000".
    auth : KeyAuth or None
        What signs the requests; None leaves it to the client that sends them.
    timeout : float or None
        Seconds that connecting, sending and answering may each take.
    retries : Retries
        When to ask again.
    in_flight : int
        How many requests of one prediction are on their way at once.
    io : Io
        How to send.

    Raises
    ------
    InvalidUrl, InvalidInput
        If an argument cannot be used.
    """

    def __init__(
        self, base_url: str, auth: KeyAuth | None, timeout: float | None, retries: Retries, in_flight: int, io: Io
    ) -> None:
        if in_flight < 1:
            raise InvalidInput(f"expected in_flight of 1 or more, got {in_flight}")
        self._base_url = _requests.checked_url(base_url)
        self.shown_url = _requests.shown_url(self._base_url)
        self.in_flight = in_flight
        self.io = io
        self._auth = auth
        self._timeout = timeout
        self._retries = retries
        self._has_answered = False
        self._model_name: str | None = None

    async def model_name(self, stop: Stop | None = None) -> str:
        """Return the name of its model, asked for at the first call only.

        Parameters
        ----------
        stop : Stop, optional
            After this signal nothing is asked again.

        Returns
        -------
        str
            As it stands in the paths of the protocol.

        Raises
        ------
        PhotozClientError
            If the service does not tell.
        """
        name = self._model_name  # another thread may forget it meanwhile
        if name is None:
            name = self._model_name = await self.ask(_requests.model_names_call, _responses.model_name, stop)
        return name

    async def ask_model(
        self, build: Callable[[str], Call], read: Callable[[httpx.Response], T], stop: Stop | None = None
    ) -> T:
        """Ask its model; if there is none of that name any more, ask once more the one that is there now.

        Parameters
        ----------
        build : callable
            Makes the call, from the name of the model.
        read, stop
            As in `ask`.

        Returns
        -------
        T
            What was read.

        Raises
        ------
        InvalidInput, PhotozClientError
            Of the last attempt.
        """
        name = await self.model_name(stop)
        try:
            return await self.ask(partial(build, name), read, stop)
        except RequestRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        if self._model_name == name:  # else another request has found out already
            self._model_name = None
        return await self.ask(partial(build, await self.model_name(stop)), read, stop)

    async def ask(self, build: Callable[[], Call], read: Callable[[httpx.Response], T], stop: Stop | None = None) -> T:
        """Ask, again where that may help.

        Parameters
        ----------
        build : callable
            Makes the call.
        read : callable
            Reads a good answer.
        stop : Stop, optional
            After this signal nothing is asked again.

        Returns
        -------
        T
            What was read.

        Raises
        ------
        InvalidInput, PhotozClientError
            Of the last attempt.
        """
        call = await self.io.work(build)
        stop = stop or self.io.stop_signal()
        attempt, waited = 0, 0.0
        while True:
            attempt += 1
            try:
                return read(await self.ask_once(call))
            except PhotozClientError as error:
                pause = self._retries.pause_after(error, attempt, waited, stranger=not self._has_answered)
                if pause is None or stop.is_set():
                    raise
                await stop.pause(pause)
                if stop.is_set():
                    raise
                waited += pause

    async def ask_once(self, call: Call, timeout: float | None = None) -> httpx.Response:
        """Ask and return a good answer.

        Parameters
        ----------
        call : Call
            What to ask.
        timeout : float, optional
            In place of the one for all.

        Returns
        -------
        httpx.Response
            Of status 200.

        Raises
        ------
        PhotozClientError
            In place of any other.
        """
        timeout = self._timeout if timeout is None else timeout
        with httpx_errors_translated(self.shown_url, timeout):
            response = await self.io.send(
                call.method,
                self._base_url + call.path,
                params=call.params,
                headers=call.headers,
                content=call.content,
                auth=self._auth or httpx.USE_CLIENT_DEFAULT,
                # To wait for a connection that another request is done with is not to wait for the service.
                timeout=httpx.Timeout(timeout, pool=None),
            )
        # All of it was read. Its stream refers back to it, a cycle in which each request's body would stay in memory
        # until the garbage collector comes, which is not soon: few objects, however large they are.
        response.stream = httpx.ByteStream(b"")
        self._has_answered = True
        return _responses.check(response, call)
