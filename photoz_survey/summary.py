"""Summary of a run: rows, flags, and the drift of the estimates from the distributions in the model card."""

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
    """Counts over all rows of a run."""

    parts: list[Part] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    counts: dict[str, FloatArray] = field(default_factory=dict)  # rows at or below each edge of the card's histograms

    @property
    def n_done(self) -> int:
        """Number of rows with estimates."""
        return sum(part.n_done for part in self.parts)

    @property
    def n_rejected(self) -> int:
        """Number of rows without estimates, and of unreadable files."""
        return sum(part.n_rejected for part in self.parts)

    def lines(self, card: Card) -> list[str]:
        """Describe the run in words."""
        n = self.n_done
        lines = [f"{n:,} rows with estimates, {self.n_rejected:,} rejected"]
        lines += [f"  {name}: {count:,} ({count / n:.1%})" for name, count in self.flags.most_common()]
        if differences := self.differences(card):
            lines.append("largest difference from the distributions of the galaxies in the model card:")
            lines += [f"  {name}: {difference:.3f}" for name, difference in differences.items()]
        return lines

    def record(self, card: Card) -> dict[str, Any]:
        """Return the numbers of `lines` for JSON."""
        counts = {"n_done": self.n_done, "n_rejected": self.n_rejected, "flags": dict(self.flags.most_common())}
        return counts | {"differences": self.differences(card)}

    def differences(self, card: Card) -> dict[str, float]:
        """Return the largest difference from the cumulative distribution in the card, for each quantity."""
        histograms = card.reference.histograms if card.reference and self.n_done else {}
        return {
            name: float(np.abs(self.counts[name] / self.n_done - histogram.fractions).max())
            for name, histogram in histograms.items()
        }


def summarise(folder: Folder, numbers: Iterable[int], card: Card) -> Summary:
    """Read all parts, one at a time, and count."""
    summary = Summary()
    for number in numbers:
        part, table = read_part(folder, number, COLUMNS)
        summary.parts.append(part)
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        for flag in Flag:
            if count := int(np.count_nonzero(columns["flags"] & flag.value)):
                summary.flags[str(flag.name)] += count
        quantities = drift.quantities(columns)
        for name, histogram in (card.reference.histograms if card.reference else {}).items():
            values = quantities[name][~np.isnan(quantities[name])]
            below = np.searchsorted(np.sort(values), np.asarray(histogram.edges), side="right").astype(float)
            summary.counts[name] = summary.counts.get(name, 0.0) + below
    return summary
