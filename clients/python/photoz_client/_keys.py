"""The key that opens a service: it goes into a header of each request, and nowhere else."""

import os
from collections.abc import Generator
from pathlib import Path

import httpx

from photoz.errors import InvalidInput

ENVIRONMENT_VARIABLE = "PHOTOZ_API_KEY"

# Servers refuse headers of more than 8 to 64 KiB; whoever names a wrong file, such as the cutouts, need not send it.
LONGEST = 4096


class KeyAuth(httpx.Auth):
    """Signs each request with a key.

    As an object of its own, and not among the headers of a `Call`, the key is in no `repr` and in no variable of our
    functions that ask. httpx takes the header away when a redirect leads to another host.

    Parameters
    ----------
    key : str
        As it was given out.

    Raises
    ------
    InvalidInput
        If it cannot stand in a header; the message does not show it.
    """

    def __init__(self, key: str) -> None:
        self._authorization = f"Bearer {checked(key)}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers["Authorization"] = self._authorization
        yield request


def auth_of(api_key: str | None, http: httpx.Client | httpx.AsyncClient | None) -> KeyAuth | None:
    """Decide who signs the requests: what stands nearest to the call.

    Parameters
    ----------
    api_key : str, optional
        What the caller said.
    http : httpx.Client or httpx.AsyncClient, optional
        What the caller gave to be used; its own `Authorization` goes before the environment's key.

    Returns
    -------
    KeyAuth or None
        Of `api_key`, else of $PHOTOZ_API_KEY; None leaves it to `http`, which may do nothing.

    Raises
    ------
    InvalidInput
        If a key cannot stand in a header.
    """
    if api_key is not None:
        return KeyAuth(api_key)
    signs_itself = http is not None and (http.auth is not None or "Authorization" in http.headers)
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
    return None if signs_itself or not from_environment else KeyAuth(from_environment)


def read_key(path: Path) -> str:
    """Read the only line of a file.

    Parameters
    ----------
    path : Path
        Of the file; white space around the key is left out.

    Returns
    -------
    str
        The key.

    Raises
    ------
    InvalidInput
        If it holds something else.
    OSError
        If it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        return checked(file.read(LONGEST + 1).strip(), f"{path} to hold an API key")


def checked(key: str, what: str = "an API key") -> str:
    """Return a key that can stand in a header.

    Raises
    ------
    InvalidInput
        If it is empty or too long, or has another character in it; the message does not show it.
    """
    if key.isascii() and key.isprintable() and " " not in key and 0 < len(key) <= LONGEST:
        return key
    found = "none" if not key else f"more than {LONGEST:,}" if len(key) > LONGEST else "others among them"
    raise InvalidInput(f"expected {what} of printable ASCII characters without spaces, got {found}")
