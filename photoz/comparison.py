"""What changes for n galaxies when B, a new model or a new version of the service, takes the place of A.

Notation: dz = (z_B - z_A) / (1 + z_A) of z_mean; F is the CDF of a galaxy's PDF. The two may have different grids.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.distances import PdfDistances, blocks, pdf_distances
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.estimates import Estimates, Flag
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import OUTLIER_CUT, GalaxyScores, galaxy_scores, outlier_fraction, residuals, sigma_mad
from photoz.paired import FigurePair, figure_pairs

# Part of the galaxies, of the CRPS and of the figures of merit that may change for the worse.
TOLERANCE = 0.02

# With fewer, chance moves sigma_mad by an eighth and more, and the outliers among them are one galaxy or none: that
# nothing is found to be worse would say nothing.
FEWEST = 100

Basis = Literal["scores", "agreement"]


@dataclass(frozen=True)
class Shift:
    """How z_mean moved.

    Parameters
    ----------
    median, sigma_mad : float
        Of dz.
    largest : float
        The dz that is farthest from 0.
    moved : float
        Part of the galaxies with abs(dz) > 0.05, `photoz.metrics.OUTLIER_CUT`.
    """

    median: float
    sigma_mad: float
    largest: float
    moved: float


@dataclass(frozen=True)
class FlagChange:
    """How many galaxies have a flag from B alone, and how many from A alone."""

    gained: int
    lost: int


@dataclass(frozen=True)
class Comparison:
    """All that changes.

    Parameters
    ----------
    n_galaxies : int
        How many were compared.
    identical : bool
        Whether all columns are the same bit for bit, PDFs and `ood_score` among them.
    z_mean : Shift
        How z_mean moved.
    pdfs : PdfDistances
        How far the PDFs are from each other.
    flags : dict of str to FlagChange
        The flags that any galaxy gained or lost.
    flags_changed : float
        Part of the galaxies whose flags are not the same.
    n_scored : int
        Galaxies with a z_spec that is on both grids.
    scores : dict of str to FigurePair
        The figures of `photoz.metrics.FIGURES` on these; empty without z_spec.
    """

    n_galaxies: int
    identical: bool
    z_mean: Shift
    pdfs: PdfDistances
    flags: dict[str, FlagChange]
    flags_changed: float
    n_scored: int
    scores: dict[str, FigurePair]


@dataclass(frozen=True)
class Verdict:
    """Whether B may take the place of A.

    Parameters
    ----------
    word : str
        "identical"; by scores "no worse" or "worse"; by agreement "agree" or "differ".
    by : {"scores", "agreement"}
        What was judged.
    reasons : tuple of str
        What speaks against B.
    """

    word: Literal["identical", "no worse", "worse", "agree", "differ"]
    by: Basis
    reasons: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against B."""
        return self.word not in ("worse", "differ")


def compare(
    a: Estimates,
    b: Estimates,
    grid_a: RedshiftGrid,
    grid_b: RedshiftGrid | None = None,
    z_spec: npt.ArrayLike | None = None,
) -> Comparison:
    """Compare two tables of estimates.

    Parameters
    ----------
    a, b : Estimates
        Of the same n galaxies, at least one, with PDFs.
    grid_a, grid_b : RedshiftGrid
        What their PDFs are binned on; without the second both are on the first.
    z_spec : (n,) array_like of float, optional
        True redshifts. Galaxies where it is NaN or not on both grids are not scored.

    Returns
    -------
    Comparison
        How B differs from A.

    Raises
    ------
    InvalidInput
        If the tables are not of the same galaxies or without PDFs, or no z_spec can be used.
    """
    grid_b = grid_b or grid_a
    if not len(a) or not np.array_equal(a.object_id, b.object_id):
        raise InvalidInput(f"expected estimates of the same galaxies, got {len(a)} and {len(b)} or other names")
    if a.pdf is None or b.pdf is None:
        raise InvalidPdfs("expected estimates with PDFs, such as predict(images, pdf=True) gives")
    scored = None if z_spec is None else _scored(a.pdf, b.pdf, grid_a, grid_b, z_spec)
    return Comparison(
        n_galaxies=len(a),
        identical=grid_a == grid_b and _same(a, b),
        z_mean=shift(a.z_mean, b.z_mean),
        pdfs=pdf_distances(a.pdf, b.pdf, grid_a, grid_b),
        flags=flag_changes(a.flags, b.flags),
        flags_changed=float(np.mean(a.flags != b.flags)),
        n_scored=0 if scored is None else len(scored[0]),
        scores={} if scored is None else figure_pairs(*scored),
    )


def _same(a: Estimates, b: Estimates) -> bool:
    pairs = zip(a.columns(), b.columns(), strict=True)
    return all(np.array_equal(x, y, equal_nan=name != "object_id") for (name, x), (_, y) in pairs)


def judge(comparison: Comparison, tolerance: float = TOLERANCE, by: Basis | None = None) -> Verdict:
    """Decide whether B may take the place of A.

    Parameters
    ----------
    comparison : Comparison
        What changes.
    tolerance : float
        What may change: by scores, part of `FigurePair.unit` that a figure may be worse by; by agreement, part of the
        galaxies whose z_mean moved by more than 0.05 (1 + z), part of them whose flags changed, and `crps_loss`.
    by : {"scores", "agreement"}, optional
        By default scores where there are any. Agreement suits a new version of the service with the same model: other
        answers are then a fault even if they are better.

    Returns
    -------
    Verdict
        With a reason for each figure that is worse, or each change that is too large.

    Raises
    ------
    InvalidInput
        If there are no scores to judge by, or scores of too few galaxies.
    """
    by = by or ("scores" if comparison.scores else "agreement")
    if comparison.identical:
        return Verdict("identical", by)
    if by == "scores":
        reasons = tuple(_worse(comparison, tolerance))
        return Verdict("worse" if reasons else "no worse", by, reasons)
    reasons = tuple(_different(comparison, tolerance))
    return Verdict("differ" if reasons else "agree", by, reasons)


def _worse(comparison: Comparison, tolerance: float) -> Iterator[str]:
    if not comparison.scores:
        raise InvalidInput("expected true redshifts, z_spec, to judge by scores, got none")
    if comparison.n_scored < FEWEST:
        raise InvalidInput(
            f"expected {FEWEST} or more galaxies with true redshifts to judge by scores, got {comparison.n_scored}: "
            "with so few, chance hides what is worse; judge by agreement, or take more"
        )
    for name, pair in comparison.scores.items():
        if pair.is_worse(tolerance):
            yield f"{name} by {pair.worsening.value:.5f} ± {pair.worsening.error:.5f}"


def _different(comparison: Comparison, tolerance: float) -> Iterator[str]:
    changes = {
        f"{{}} of z_mean moved by more than {OUTLIER_CUT:g} (1 + z)": comparison.z_mean.moved,
        "the PDFs differ by {} of the CRPS": comparison.pdfs.crps_loss,
        "{} of the galaxies have other flags": comparison.flags_changed,
    }
    for text, part in changes.items():
        if part > tolerance:
            yield text.format(f"{100 * part:.1f} %")


def shift(z_a: FloatArray, z_b: FloatArray) -> Shift:
    """Say how redshifts moved from z_a to z_b, both (n,)."""
    dz = residuals(z_b, z_a)
    largest = float(dz[np.argmax(np.abs(dz))])
    return Shift(float(np.median(dz)), sigma_mad(dz), largest, outlier_fraction(dz))


def flag_changes(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> dict[str, FlagChange]:
    """Count who gained and who lost each flag from a to b, (n,) masks of `Flag`; only flags that any galaxy did."""
    gained, lost = b & ~a, a & ~b
    counts = {str(flag.name): FlagChange(_count(gained, flag), _count(lost, flag)) for flag in Flag}
    return {name: change for name, change in counts.items() if change.gained or change.lost}


def _count(flags: npt.NDArray[np.integer], flag: Flag) -> int:
    return int(np.count_nonzero(flags & int(flag)))


def _scored(
    pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid, z_spec: npt.ArrayLike
) -> tuple[GalaxyScores, GalaxyScores]:
    z_spec = np.asarray(z_spec, dtype=np.float64)
    if z_spec.shape != (len(pdfs_a),):
        raise InvalidRedshifts(f"expected {len(pdfs_a)} true redshifts, one for each galaxy, got shape {z_spec.shape}")
    rows = np.flatnonzero(grid_a.contains(z_spec) & grid_b.contains(z_spec))
    if not len(rows):
        z_max = min(grid_a.z_max, grid_b.z_max)
        raise InvalidRedshifts(f"none of the {len(z_spec)} z_spec is on both grids: expected 0 <= z <= {z_max:g}")
    return _scores(pdfs_a, z_spec, grid_a, rows), _scores(pdfs_b, z_spec, grid_b, rows)


def _scores(pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, rows: npt.NDArray[np.integer]) -> GalaxyScores:
    chosen = [rows[block] for block in blocks(len(rows))]
    parts = [galaxy_scores(pdf.as_pdfs(pdfs[block], grid), z_spec[block], grid) for block in chosen]
    return GalaxyScores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})
