"""The two clients: blocking and asyncio."""

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx

from photoz import __version__
from photoz.inference.engines import AUTO
from photoz_client._auth import find_auth
from photoz_client._backends import AsyncBackend, Backend, BlockingBackend, iterate_blocking, run_blocking
from photoz_client._connection import Connection, ServiceConnection
from photoz_client._inputs import WireDtype
from photoz_client._local import LocalConnection
from photoz_client._operations import Operations
from photoz_client._retries import DEFAULT_RETRIES, Retries

# While one request is transferred, the service works on a second; more than two keep several workers busy.
IN_FLIGHT = 4

# Seconds; shorter than the idle timeout of the service (10 s by default), which may close a connection as it is reused.
KEEPALIVE_EXPIRY = 3.0

P = ParamSpec("P")
T = TypeVar("T")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class _BaseClient(Generic[Http]):
    """A connection to one service over an httpx client, our own or a given one."""

    _http_type: type[Http]
    _backend_type: Callable[[Http], Backend]
    _connection: Connection

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float | None = 30.0,
        in_flight: int = IN_FLIGHT,
        retries: Retries = DEFAULT_RETRIES,
        wire_dtype: WireDtype = "float32",
        http: Http | None = None,
    ) -> None:
        auth = find_auth(api_key, http)
        self._owns_http = http is None
        self._http: Http = http or self._http_type(
            headers={"User-Agent": f"photoz-client/{__version__}"},
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_EXPIRY),  # in_flight is the limit
        )
        backend = self._backend_type(self._http)
        self._connection = ServiceConnection(base_url, auth, timeout, retries, in_flight, wire_dtype, backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.address!r})"


class AsyncPhotozClient(_BaseClient[httpx.AsyncClient], Operations):
    """`PhotozClient` for asyncio: the same methods, awaited; use it in an `async with` block.

    Its parameters and errors are those of `PhotozClient`, but `http` is an `httpx.AsyncClient`.
    """

    _http_type = httpx.AsyncClient
    _backend_type = AsyncBackend

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, except those of an `http` that was given."""
        if self._owns_http:
            await self._http.aclose()


def _blocking(
    method: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["PhotozClient", P], T]:
    """Make a blocking method of a coroutine method, with its signature and docstring."""

    @wraps(method)
    def call(self: "PhotozClient", /, *args: P.args, **options: P.kwargs) -> T:
        return run_blocking(method(Operations(self._connection), *args, **options))

    return call


def _iterating(
    method: Callable[Concatenate[Operations, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["PhotozClient", P], Iterator[T]]:
    """Make a method that returns an iterator of one that returns an asynchronous generator."""

    @wraps(method)
    def call(self: "PhotozClient", /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        return iterate_blocking(method(Operations(self._connection), *args, **options))

    return call


class PhotozClient(_BaseClient[httpx.Client]):
    """A connection to one photo-z service; close it, or use it in a `with` block. Threads may share it.

    Each method returns when its work is done; `AsyncPhotozClient` has the same methods for asyncio.

    Parameters
    ----------
    base_url : str
        Such as "http://127.0.0.1:3000".
    api_key : str, optional
        API key of the service; by default the value of the environment variable PHOTOZ_API_KEY, if it is set.
    timeout : float or None
        Seconds that connecting, sending and answering may each take; None sets no limit.
    in_flight : int
        How many requests of one prediction are sent concurrently, and so held in memory; with 1, no threads are used.
    retries : Retries
        When a request is sent again; `Retries(attempts=1)` disables retries.
    wire_dtype : {"float32", "float16"}
        Number type of the pixels that `predict` sends. "float16" halves the bytes and changes each pixel by 0.05 % at
        most; pixels that do not fit raise `InvalidImages`. Types of two bytes or less are sent unchanged.
    http : httpx.Client, optional
        A client to use instead of our own, with its headers, proxies or certificates. It is not closed. Its
        credentials take precedence over PHOTOZ_API_KEY, and `api_key` takes precedence over both.

    Raises
    ------
    InvalidUrl, InvalidInput
        If an argument cannot be used.
    """

    _http_type = httpx.Client
    _backend_type = BlockingBackend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, except those of an `http` that was given."""
        if self._owns_http:
            self._http.close()

    predict = _blocking(Operations.predict)
    predict_parts = _iterating(Operations.predict_parts)
    evaluate = _blocking(Operations.evaluate)
    evaluate_report = _blocking(Operations.evaluate_report)
    evaluate_plot = _blocking(Operations.evaluate_plot)
    model = _blocking(Operations.model)
    wait_until_ready = _blocking(Operations.wait_until_ready)


class LocalClient(PhotozClient):
    """A model bundle in this process, without a service: the methods of `PhotozClient`, with the same results.

    It needs ``pip install 'photoz[local]'``. Threads may share it.

    Parameters
    ----------
    bundle : path
        Folder of the model bundle, such as "models/photoz".
    engine : str
        Name of an engine in the model's card; by default the first that this processor runs.
    threads : int, optional
        Threads of the network; by default one for each CPU that this process may use.

    Raises
    ------
    InvalidBundle
        If the bundle cannot be used.
    MissingExtra
        If a package is not installed.
    """

    def __init__(self, bundle: str | os.PathLike[str], *, engine: str = AUTO, threads: int | None = None) -> None:
        self._connection = LocalConnection(bundle, engine, threads)

    def close(self) -> None:
        """Do nothing: there are no connections."""
