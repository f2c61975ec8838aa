"""What the quality flags are worth: how good the redshifts are that they mark, and those that they leave."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidInput
from photoz.estimates import Flag
from photoz.grid import BoolArray, IntArray
from photoz.metrics import OUTLIER_CUT, GalaxyScores, Score, summarise

# The fewest galaxies whose figures of merit are worth printing.
N_MIN = 10

N_RESAMPLES = 200


class FlagScores(NamedTuple):
    """The galaxies that a flag marks, or that none does.

    Parameters
    ----------
    flag : str
        "none", the name of a `Flag`, or "any".
    n_galaxies : int
        How many they are.
    n_outliers : int
        How many of them are outliers.
    scores : dict of str to Score
        Their figures of merit; empty for fewer than 10 galaxies.
    """

    flag: str
    n_galaxies: int
    n_outliers: int
    scores: Mapping[str, Score]


def summarise_flags(galaxies: GalaxyScores, flags: npt.ArrayLike) -> list[FlagScores]:
    """Score the galaxies without a flag, those with each flag, and those with any.

    Parameters
    ----------
    galaxies : GalaxyScores
        n galaxies.
    flags : (n,) array_like of int
        Bit masks of `Flag`.

    Returns
    -------
    list of FlagScores
        First "none", then each flag in the order of its bit, last "any". A galaxy with two flags counts for both.

    Raises
    ------
    InvalidInput
        If the flags are not one whole number a galaxy.
    """
    masks = as_flags(flags, len(galaxies))
    chosen = {"none": masks == 0, **{str(flag.name): (masks & int(flag)) != 0 for flag in Flag}, "any": masks != 0}
    return [_score(name, galaxies, inside) for name, inside in chosen.items()]


def as_flags(flags: npt.ArrayLike, n: int) -> IntArray:
    """Return flags as (n,) int; raises InvalidInput if they are not."""
    masks = np.asarray(flags)
    if masks.shape != (n,) or masks.dtype.kind not in "iu":
        raise InvalidInput(f"expected {n} whole-number flags, one for each galaxy, got {masks.dtype} of {masks.shape}")
    return masks


def _score(name: str, galaxies: GalaxyScores, inside: BoolArray) -> FlagScores:
    n = int(inside.sum())
    n_outliers = int((np.abs(galaxies.dz[inside]) > OUTLIER_CUT).sum())
    scores = summarise(galaxies.take(inside), N_RESAMPLES) if n >= N_MIN else {}
    return FlagScores(name, n, n_outliers, scores)
