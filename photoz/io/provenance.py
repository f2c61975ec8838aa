"""Where a table of estimates comes from, as the file formats record it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from photoz import __version__
from photoz.errors import printable

# Kinds of notes about the input.
NOTES = ("used", "assumed", "left_out")

# The environment variable of https://reproducible-builds.org/specs/source-date-epoch: seconds since 1970.
SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class Provenance:
    """The model, the input and the software behind a table of estimates; what is not known is empty."""

    model: str = ""  # name and version
    input: str = ""  # name of the file of cutouts
    date: str = ""  # when the table was made: UTC, ISO 8601
    software: str = f"photoz {__version__}"
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # on the input, in words, by `NOTES`

    def record(self) -> dict[str, Any]:
        """Return what is known by name, text and tuples of text, without control characters."""
        record = {name: getattr(self, name) for name in ("model", "input", "date", "software")}
        record |= {name: tuple(self.notes.get(name, ())) for name in NOTES}
        if not "".join(map("".join, record.values())).isprintable():
            record = {
                name: printable(v) if isinstance(v, str) else tuple(map(printable, v)) for name, v in record.items()
            }
        return {name: value for name, value in record.items() if value}


def now() -> str:
    """Return the time in UTC, ISO 8601; that of `SOURCE_DATE_EPOCH` if it is set."""
    seconds = os.environ.get(SOURCE_DATE_EPOCH)
    time = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(int(seconds), UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
