"""The ledger beside a file of cutouts, in CSV: what became of each galaxy of the list."""

import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz.io.provenance import now
from photoz_survey.sky.targets import Targets
from photoz_survey.storage import write_local

ADDRESS = re.compile(r"^https?://\S+: ")
SHOWN = 3  # reasons in a summary


def ledger_path(output: Path) -> Path:
    """Return the path of the ledger of a file of cutouts."""
    return output.with_name(f"{output.stem}.ledger.csv")


class Ledger:
    """For n galaxies the reason why there is no cutout, when one was last tried, and how often."""

    def __init__(self, output: Path, key: str, n: int) -> None:
        """Read the ledger of a file, unless it has another `key`, which stands for the list and the source."""
        import pandas as pd  # 60 MB, which processes that cut do not need

        self._path, self._key = ledger_path(output), key
        self._rows = pd.DataFrame({"reason": "", "when": "", "tries": 0}, range(n))
        with contextlib.suppress(FileNotFoundError), self._path.open(encoding="utf-8", newline="") as file:
            if file.readline() == f"# {key}\n":
                self._rows = pd.read_csv(file, keep_default_na=False, usecols=list(self._rows), dtype={"reason": str})

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which galaxies have cutouts, (n,)."""
        return np.asarray((self._rows["tries"] > 0) & (self._rows["reason"] == ""))

    def record(self, rows: npt.NDArray[np.intp], reasons: Any) -> None:
        """Record an attempt at the galaxies at rows (m,); the reason is "" for those that have a cutout now."""
        self._rows.loc[rows, "reason"], self._rows.loc[rows, "when"] = reasons, now()
        self._rows.loc[rows, "tries"] += 1

    def forget(self) -> None:
        """Forget which galaxies have cutouts."""
        self._rows.loc[self.done, "tries"] = 0

    def write(self, targets: Targets) -> None:
        """Write or replace the file."""
        status = np.where(self.done, "done", "failed")
        columns = {"object_id": targets.object_id, "ra": targets.ra, "dec": targets.dec, "status": status}
        rows = self._rows.assign(**columns)[[*columns, *self._rows]]
        table = rows.to_csv(index=False, lineterminator="\n")
        write_local(self._path, f"# {self._key}\n{table}".encode())

    def summary(self) -> str:
        """Count the galaxies by what became of them."""
        reasons = Counter(ADDRESS.sub("", reason) for reason in self._rows["reason"][~self.done])
        counts = [f"{n:,} failed: {reason}" for reason, n in reasons.most_common(SHOWN)]
        counts += [f"{reasons.total() - sum(n for _, n in reasons.most_common(SHOWN)):,} failed otherwise"] * (
            len(reasons) > SHOWN
        )
        return "; ".join([f"{self.done.sum():,} of {len(self._rows):,} have cutouts", *counts])
