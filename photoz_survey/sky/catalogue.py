"""Queries to SDSS's catalogue, by astroquery; the answers are kept as they came, in CSV files."""

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astroquery.sdss import SDSS, conf

from photoz.cli.printing import show
from photoz.errors import InvalidDataset, reason
from photoz.grid import FloatArray
from photoz.io.catalogue_files import read_table
from photoz.io.cutouts import Column
from photoz_survey.sky.session import ArchiveError, Session, quoted, status
from photoz_survey.storage import write_local

RELEASE = 17

# Largest distance of a catalogue object from a position.
RADIUS = 5.0 * u.arcsec

# Rows at which the catalogue ends an answer.
MAX_ROWS = 500_000

# Seconds to connect, and to wait for more; bytes of an answer, and for each position of one about positions.
TIMEOUT, MAX_BYTES, MAX_BYTES_EACH = (3.0, 600.0), 2**30, 2**12

# The first line of an answer with columns, and an answer without them.
HEADER = re.compile(rb'(#[^\n]*\n)?"?\w+"?(,"?\w+"?)*\s*?(\n|$)')
NOTHING = re.compile(rb"\s*No (objects|entries|rows)( have been)? found", re.IGNORECASE)

Columns = dict[str, Column]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue at an address."""

    address: str
    folder: Path  # of the answers
    newest: float = field(default=0.0, compare=False)  # ask again for answers from before then, in seconds since 1970
    offline: bool = False  # use only the answers in the folder

    def select(self, sql: str) -> Columns:
        """Return the columns of a query that has a column `ra`; empty if it finds nothing.

        A query that finds more rows than the catalogue gives at once is divided by `ra`. Raises `ArchiveError` if the
        catalogue gives something else, and `Unreachable`.
        """
        sql = sql.strip().rstrip(";")
        columns = self._rows(sql)
        if _length(columns) < MAX_ROWS:
            return columns
        whole = f"SELECT * FROM ({sql}) AS q WHERE"
        parts = self._divided(whole, 0.0, 180.0) + self._divided(whole, 180.0, 360.0)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        n = int(self._rows(f"SELECT COUNT(*) AS n FROM ({sql}) AS q")["n"][0])
        if _length(columns) != n:
            raise ArchiveError(f"the catalogue counts {n:,} rows, and gave {_length(columns):,} in {len(parts)} parts")
        return columns

    def near(self, ra: FloatArray, dec: FloatArray, names: Sequence[str]) -> Columns:
        """Return columns of the nearest primary object within `RADIUS` of each of n positions that has one.

        With `row`, the number of the position, and `type`, such as GALAXY. Empty if there are none, or if they are not
        known offline. Raises as `select`.
        """
        rows, positions = [f"row{number}" for number in range(len(ra))], SkyCoord(ra, dec, unit="deg")
        ask = partial(SDSS.query_crossid_async, positions, obj_names=rows, radius=RADIUS, photoobj_fields=[*names])

        def check(columns: Columns) -> Columns:
            numbers = {name: np.asarray(columns[name], float) for name in names}
            found = [rows.index(str(name)) for name in columns["name"]]
            return {"row": np.array(found, int), "type": columns["type"], **numbers}

        query = f"{RADIUS} {names} {ra.tolist()} {dec.tolist()}"
        return self._answer(ask, query, check, MAX_BYTES_EACH * (1 + len(rows))) or {}

    def _rows(self, sql: str) -> Columns:
        columns = self._answer(partial(SDSS.query_sql_async, sql), sql)
        if columns is None:
            raise ArchiveError("the catalogue's answer to this query is not known, and nothing is asked offline")
        return columns

    def _divided(self, sql: str, low: float, high: float) -> list[Columns]:
        columns, middle = self._rows(f"{sql} q.ra >= {low!r} AND q.ra < {high!r}"), (low + high) / 2
        if _length(columns) < MAX_ROWS or middle in (low, high):
            return [columns] if columns else []
        return self._divided(sql, low, middle) + self._divided(sql, middle, high)

    def _answer(
        self,
        ask: Callable[..., Any],
        query: str,
        check: Callable[[Columns], Columns] = dict,
        max_bytes: int = MAX_BYTES,
    ) -> Columns | None:
        """Return the columns of an answer, empty if it has no rows; None if it is not known offline.

        An answer is not kept if `check` raises `LookupError` or `ValueError`; without rows, its columns are empty.
        """
        digest = hashlib.sha256(f"{self.address} {RELEASE} {query}".encode()).hexdigest()
        path = self.folder / f"catalogue-{digest[:32]}.csv"
        if not path.exists() or (path.stat().st_mtime < self.newest and not self.offline):
            if self.offline:
                return None
            write_local(path, self._ask(ask))
        with path.open("rb") as file:
            header = HEADER.match(first := file.read(2**16))
        try:
            if path.stat().st_size > max_bytes:
                raise InvalidDataset(f"expected at most {max_bytes:,} bytes, got more")
            if NOTHING.match(first):
                return {}
            if not header:
                raise InvalidDataset(f"expected a line with the names of columns, got {quoted(first)}")
            if first[header.end() :].strip():
                return check(dict(read_table(path, {"object_id": "object_id", "split": "split"}).columns))
            check(dict.fromkeys(re.findall(r"\w+", header[0].decode()), np.empty(0)))
        except (InvalidDataset, LookupError, ValueError) as error:
            path.unlink()
            raise ArchiveError(f"the catalogue at {self.address} gave no such table: {reason(error)}") from error
        return {}

    def _ask(self, ask: Callable[..., Any]) -> bytes:
        session = SDSS._session = Session(TIMEOUT, MAX_BYTES)
        content, failure = b"", ""
        try:
            with conf.set_temp("skyserver_baseurl", self.address.rstrip("/")), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of astroquery, if the list of columns is something else
                response = ask(data_release=RELEASE, cache=False)
            content, failure = response.content, "" if response.ok else status(response)
        except (LookupError, TypeError, ValueError):  # the list of columns is something else
            failure = quoted(session.last)
        if NOTHING.match(content):
            show(f"the catalogue said {quoted(content)}", err=True)
        elif failure or not HEADER.match(content):
            raise ArchiveError(f"the catalogue at {self.address} gave no table; it said {failure or quoted(content)}")
        return content


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values()), ()))
