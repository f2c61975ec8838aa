"""API keys and the file that lists them.

`python -m service keys create NAME` makes one: it prints the key, once, and the line for the file. The file holds only
hashes. Keys are 256 random bits, so a plain SHA-256 is enough: there is nothing to guess (NIST SP 800-63B, 5.1.2).
"""

import hashlib
import hmac
import logging
import re
import secrets
import stat
import time
from http import HTTPStatus
from pathlib import Path

from photoz.errors import InvalidInput, reason
from service.errors import RequestError

logger = logging.getLogger("bentoml.photoz")

LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<digest>[0-9a-fA-F]{64})")
EXPECTED = "expected lines NAME SHA256, as `python -m service keys create NAME` prints them"

MAX_FILE_BYTES = 1024 * 1024

READ_EVERY = 1.0  # seconds


class ApiKeys:
    """The keys of a file, which is read again every second; raises as `read_keys`."""

    def __init__(self, path: Path) -> None:
        self._path, self._digests, self._read_at = path, read_keys(path), time.monotonic()

    @property
    def n_keys(self) -> int:
        """How many there are; with none, all requests are refused."""
        return len(self._digests)

    def check(self, authorization: str) -> str:
        """Return the name of the key in an Authorization header; raises `RequestError` (401)."""
        self._read_again()
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RequestError(
                HTTPStatus.UNAUTHORIZED, "an API key is needed: expected the header Authorization: Bearer KEY"
            )
        digest = hashlib.sha256(key.strip().encode()).digest()
        # All are compared, each in constant time, so that the time reveals nothing.
        names = [name for name, known in self._digests.items() if hmac.compare_digest(known, digest)]
        if not names:
            raise RequestError(HTTPStatus.UNAUTHORIZED, "unknown API key: it is wrong or was withdrawn")
        return names[0]

    def _read_again(self) -> None:
        """Read the file, unless it was read just now; also another file that has taken its name, as in Kubernetes."""
        if (now := time.monotonic()) - self._read_at < READ_EVERY:
            return
        self._read_at = now
        try:
            digests = read_keys(self._path)
        except InvalidInput as error:
            logger.error("API keys not reloaded, the previous ones stay valid: %s", error)
            return
        if digests != self._digests:
            self._digests = digests
            logger.info("reloaded %d API keys from %s", len(digests), self._path)


def read_keys(path: Path) -> dict[str, bytes]:
    """Read a file of lines `NAME SHA256`: digests by name. Empty lines and those that start with # are ignored.

    Raises `InvalidInput` with the number of the wrong line but not its text, which might hold a key.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for its writer
            raise OSError("it is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(f"it has {status.st_size:,} bytes; {EXPECTED}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"PHOTOZ_API_KEYS_FILE={path} cannot be read: {reason(error)}") from error
    digests: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if not match or match["name"] in digests:
            why = "repeats a name" if match else "is not one"
            raise InvalidInput(f"PHOTOZ_API_KEYS_FILE={path}: {EXPECTED}; line {number} {why}")
        digests[match["name"]] = bytes.fromhex(match["digest"])
    return digests


def create_key(name: str) -> tuple[str, str]:
    """Make an API key: the key for its owner, and the line for the file of PHOTOZ_API_KEYS_FILE."""
    key = secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}"
    if not LINE.fullmatch(line):
        raise InvalidInput(f"{name!r} cannot be a name: expected letters, digits and . _ @ -, at most 64")
    return key, line
