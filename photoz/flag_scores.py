"""Metrics of the galaxies with and without each quality flag."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput
from photoz.flags import Flag
from photoz.metrics import OUTLIER_CUT, GalaxyScores, Score, summarise

N_MIN = 10  # galaxies; fewer get no metrics

N_RESAMPLES = 200


class FlagScores(NamedTuple):
    """Metrics of the galaxies with a flag, or without any; empty for fewer than 10 galaxies."""

    flag: str  # "none", the name of a `Flag`, or "any"
    n_galaxies: int
    n_outliers: int
    scores: Mapping[str, Score]


def summarise_flags(galaxies: GalaxyScores, flags: npt.ArrayLike) -> list[FlagScores]:
    """Score n galaxies without a flag, with each flag in the order of its bit, and with any.

    `flags` is (n,) int, bit masks of `Flag`; raises `InvalidInput` if it is not.
    """
    masks = np.asarray(flags)
    n = len(galaxies)
    if masks.shape != (n,) or masks.dtype.kind not in "iu":
        raise InvalidInput(f"expected {n} whole-number flags, one for each galaxy, got {masks.dtype} of {masks.shape}")
    groups = {"none": masks == 0, **{str(flag.name): (masks & int(flag)) != 0 for flag in Flag}, "any": masks != 0}
    return [_score(name, galaxies.take(inside)) for name, inside in groups.items()]


def _score(name: str, galaxies: GalaxyScores) -> FlagScores:
    n_outliers = int((np.abs(galaxies.dz) > OUTLIER_CUT).sum())
    scores = summarise(galaxies, N_RESAMPLES) if len(galaxies) >= N_MIN else {}
    return FlagScores(name, len(galaxies), n_outliers, scores)
