"""Tables that other programs fetch from the service for some minutes, at addresses that cannot be guessed."""

import secrets
import time

from starlette.responses import Response

from photoz.errors import TooLarge

PREFIX = "/table/"
MAX_TABLES, MAX_BYTES, SECONDS = 64, 8 * 1024 * 1024, 600.0  # of all tables together; how long each is kept


class SharedTables:
    """The latest tables, as responses by their paths."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[float, Response]] = {}  # with the time when they expire, the oldest first

    def add(self, response: Response) -> str:
        """Keep a response and return its path; the oldest make room for it. Raises `TooLarge`."""
        if len(response.body) > MAX_BYTES:
            raise TooLarge(f"expected a table of at most {MAX_BYTES:,} bytes to share, got {len(response.body):,}")
        path = PREFIX + secrets.token_urlsafe(16)
        self._tables[path] = (time.monotonic() + SECONDS, response)
        while len(self._tables) > MAX_TABLES or sum(len(other.body) for _, other in self._tables.values()) > MAX_BYTES:
            del self._tables[next(iter(self._tables))]
        return path

    def get(self, path: str) -> Response | None:
        """Return the response with a path, unless it has expired."""
        self._tables = {key: table for key, table in self._tables.items() if table[0] > time.monotonic()}
        return self._tables[path][1] if path in self._tables else None
