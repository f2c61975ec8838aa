"""Keys that open the service, and the file that lists them.

`python -m service.edge.keys NAME` makes one: it prints the key, once, and the line for the file. The file holds the
hash alone. Keys are 256 random bits, so a plain SHA-256 is enough: there is nothing to guess (NIST SP 800-63B, 5.1.2).
"""

import argparse
import hashlib
import hmac
import logging
import re
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from photoz.errors import InvalidInput, reason
from service.errors import Unauthorized

logger = logging.getLogger("bentoml.photoz")

# Liveness and readiness, by all their names: what an orchestrator asks without a key.
OPEN_PATHS = frozenset({"/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})

LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<digest>[0-9a-fA-F]{64})")
EXPECTED = "expected lines NAME SHA256, as `python -m service.edge.keys NAME` prints them"

LOOK_EVERY = 1.0  # seconds between looks at whether the file has changed

Digests = Mapping[str, bytes]


class Keys:
    """The keys of a file that may change.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InvalidInput
        If it cannot be read, or is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._digests = read_keys(path)
        self._looked = time.monotonic()

    @property
    def n_keys(self) -> int:
        """How many there are; with none nobody gets in."""
        return len(self._digests)

    def check(self, authorization: bytes) -> str:
        """Check the key of a request.

        Parameters
        ----------
        authorization : bytes
            Its header of that name; empty if it has none.

        Returns
        -------
        str
            The name of the key.

        Raises
        ------
        Unauthorized
            If there is none, or a wrong one.
        """
        self._look_again()
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise Unauthorized("a key is needed: expected the header Authorization: Bearer KEY")
        digest = hashlib.sha256(key.strip()).digest()
        # All are compared, each in constant time, so that the time tells nothing.
        names = [name for name, known in self._digests.items() if hmac.compare_digest(known, digest)]
        if not names:
            raise Unauthorized("this key opens nothing here: it is wrong, or was withdrawn")
        return names[0]

    def _look_again(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._digests, self._stamp = read_keys(self._path), stamp
                logger.info("read %d keys from %s again", len(self._digests), self._path)
        except InvalidInput as error:
            logger.error("the keys of before stay valid: %s", error)


def read_keys(path: Path) -> Digests:
    """Read a file of keys.

    Parameters
    ----------
    path : Path
        A line `NAME SHA256` for each; empty lines and those that begin with # say nothing.

    Returns
    -------
    mapping of str to bytes
        Their digests by name; none, if the file lists none: then nobody gets in.

    Raises
    ------
    InvalidInput
        Naming the line, never showing it: it might hold a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"PHOTOZ_API_KEYS_FILE={path} cannot be read: {reason(error)}") from error
    digests: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if not found or found["name"] in digests:
            why = "names a key twice" if found else "is not one"
            raise InvalidInput(f"PHOTOZ_API_KEYS_FILE={path}: {EXPECTED}; line {number} {why}")
        digests[found["name"]] = bytes.fromhex(found["digest"])
    return digests


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes with a file, also where another takes its name as Kubernetes does."""
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"PHOTOZ_API_KEYS_FILE={path} cannot be read: {reason(error)}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def main() -> int:
    """Make a key."""
    parser = argparse.ArgumentParser(prog="python -m service.edge.keys", description="Make a key for the service.")
    parser.add_argument("name", help="whose key it is: letters, digits and . _ @ -, 64 at most")
    name = parser.parse_args().name
    key = secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}"
    if not LINE.fullmatch(line):
        parser.error(f"{name!r} cannot be a name: expected letters, digits and . _ @ -, 64 at most")
    print("The key, for its owner; it is shown this once:", key, sep="\n", file=sys.stderr)
    if sys.stdout.isatty():
        print("The line for the file of PHOTOZ_API_KEYS_FILE:", file=sys.stderr)
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
