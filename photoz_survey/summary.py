"""What came of a run: rows, flags, and how far the estimates have drifted from those that the model card knows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from photoz import drift
from photoz.flags import Flag
from photoz.grid import FloatArray
from photoz.model.card import Card
from photoz_survey.manifest import Part
from photoz_survey.parts import read_part
from photoz_survey.storage import Folder

COLUMNS = ("z_mean", "z_lo68", "z_hi68", "ood_score", "flags")


@dataclass
class Summary:
    """Counts over all rows that were scored."""

    parts: list[Part] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    counts: dict[str, FloatArray] = field(default_factory=dict)  # rows at or below each edge of the card's histograms

    @property
    def n_done(self) -> int:
        """Number of rows with estimates."""
        return sum(part.n_done for part in self.parts)

    @property
    def n_rejected(self) -> int:
        """Number of rows, or unreadable files, without."""
        return sum(part.n_rejected for part in self.parts)

    def lines(self, card: Card) -> list[str]:
        """Describe the run in words."""
        n = self.n_done
        said = [f"{n:,} rows with estimates, {self.n_rejected:,} rejected"]
        said += [f"  {name}: {count:,} ({count / n:.1%})" for name, count in self.flags.most_common()]
        if found := self.differences(card):
            said.append("largest difference from the distributions of the galaxies in the model card:")
            said += [f"  {name}: {difference:.3f}" for name, difference in found.items()]
        return said

    def record(self, card: Card) -> dict[str, Any]:
        """Describe the run for programs."""
        counts = {"n_done": self.n_done, "n_rejected": self.n_rejected, "flags": dict(self.flags.most_common())}
        return counts | {"differences": self.differences(card)}

    def differences(self, card: Card) -> dict[str, float]:
        """Return how far the distribution of each quantity is from that in the card, where both are known."""
        known = card.reference.histograms if card.reference and self.n_done else {}
        return {
            name: float(np.abs(self.counts[name] / self.n_done - histogram.fractions).max())
            for name, histogram in known.items()
        }


def summarise(folder: Folder, numbers: Iterable[int], card: Card) -> Summary:
    """Read all parts again, one at a time, and count."""
    summary = Summary()
    for number in numbers:
        part, table = read_part(folder, number, COLUMNS)
        summary.parts.append(part)
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        for flag in Flag:
            if count := int(np.count_nonzero(columns["flags"] & flag.value)):
                summary.flags[str(flag.name)] += count
        found = drift.quantities(columns)
        for name, known in (card.reference.histograms if card.reference else {}).items():
            values = found[name][~np.isnan(found[name])]
            below = np.searchsorted(np.sort(values), np.asarray(known.edges), side="right").astype(float)
            summary.counts[name] = summary.counts.get(name, 0.0) + below
    return summary
