"""API keys: where a key comes from, and the header that carries it."""

import os
from collections.abc import Generator
from pathlib import Path

import httpx

from photoz.errors import InvalidInput

ENVIRONMENT_VARIABLE = "PHOTOZ_API_KEY"

# Servers refuse headers longer than 8 to 64 KiB. The limit also prevents sending a wrong file, such as the cutouts.
MAX_KEY_LENGTH = 4096


class ApiKeyAuth(httpx.Auth):
    """Adds the API key to each request.

    This object holds the key, so that it appears in no `repr`, and in no local variable of the functions that send
    requests. httpx removes the header when a redirect leads to another host.
    """

    def __init__(self, key: str) -> None:
        self._authorization = f"Bearer {check_api_key(key)}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers["Authorization"] = self._authorization
        yield request


def find_auth(api_key: str | None, http: httpx.Client | httpx.AsyncClient | None) -> ApiKeyAuth | None:
    """Return the auth for `api_key`; without it, None if `http` has credentials, else the auth for $PHOTOZ_API_KEY."""
    if api_key is not None:
        return ApiKeyAuth(api_key)
    has_credentials = http is not None and (http.auth is not None or "Authorization" in http.headers)
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
    return None if has_credentials or not from_environment else ApiKeyAuth(from_environment)


def read_api_key(path: Path) -> str:
    """Read a key from a file that holds only the key and white space."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return check_api_key(file.read(MAX_KEY_LENGTH + 1).strip(), f"{path} to hold an API key")


def check_api_key(key: str, what: str = "an API key") -> str:
    """Return a key that can be sent in a header, or raise `InvalidInput` with a message that does not show the key."""
    if key.isascii() and key.isprintable() and " " not in key and 0 < len(key) <= MAX_KEY_LENGTH:
        return key
    too_long = len(key) > MAX_KEY_LENGTH
    problem = "none" if not key else f"more than {MAX_KEY_LENGTH:,}" if too_long else "other characters"
    raise InvalidInput(f"expected {what} of printable ASCII characters without spaces, got {problem}")
