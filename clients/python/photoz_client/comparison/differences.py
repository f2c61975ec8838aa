"""What changes for n galaxies when B, a new model or a new version of the service, replaces A.

Notation: dz = (z_B - z_A) / (1 + z_A) of z_mean; F is the CDF of a galaxy's PDF. The grids of A and B may differ.
"""

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.metrics import GalaxyScores, galaxy_scores, outlier_fraction, residuals, sigma_mad
from photoz_client.comparison.paired_bootstrap import MetricPair, metric_pairs
from photoz_client.comparison.pdf_distances import PdfDistances, pdf_distances


@dataclass(frozen=True)
class Shift:
    """How z_mean moved."""

    median: float  # of dz
    sigma_mad: float  # of dz
    largest: float  # the dz that is farthest from 0
    moved: float  # fraction of the galaxies with abs(dz) > 0.05, `photoz.metrics.OUTLIER_CUT`


@dataclass(frozen=True)
class FlagChange:
    """How many galaxies have a flag only from B (gained) and only from A (lost)."""

    gained: int
    lost: int


@dataclass(frozen=True)
class Comparison:
    """All differences between A and B."""

    n_galaxies: int
    identical: bool  # all columns are equal bit for bit, including PDFs and `ood_score`
    z_mean: Shift
    pdfs: PdfDistances
    flags: dict[str, FlagChange]  # by flag; only those that any galaxy gained or lost
    flags_changed: float  # fraction of the galaxies with different flags
    n_scored: int  # galaxies with a z_spec that is on both grids
    scores: dict[str, MetricPair]  # by metric, of these galaxies; empty without z_spec


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
        Estimates with PDFs for the same n galaxies, at least one.
    grid_a, grid_b : RedshiftGrid
        The grids of their PDFs; the second defaults to the first.
    z_spec : (n,) array_like of float, optional
        True redshifts. Galaxies whose z_spec is NaN or not on both grids are not scored.

    Returns
    -------
    Comparison
        How B differs from A.

    Raises
    ------
    InvalidInput
        If the galaxies differ, a table has no PDFs, or no z_spec can be used.
    """
    grid_b = grid_b or grid_a
    if not len(a) or not np.array_equal(a.object_id, b.object_id):
        raise InvalidInput(f"expected estimates of the same galaxies, got {len(a)} and {len(b)}, or different names")
    if a.pdf is None or b.pdf is None:
        raise InvalidPdfs("expected estimates with PDFs: use predict(images, pdf=True)")
    scored = None if z_spec is None else _scored(a.pdf, b.pdf, grid_a, grid_b, z_spec)
    return Comparison(
        n_galaxies=len(a),
        identical=grid_a == grid_b and _same(a, b),
        z_mean=shift(a.z_mean, b.z_mean),
        pdfs=pdf_distances(a.pdf, b.pdf, grid_a, grid_b),
        flags=flag_changes(a.flags, b.flags),
        flags_changed=float(np.mean(a.flags != b.flags)),
        n_scored=0 if scored is None else len(scored[0]),
        scores={} if scored is None else metric_pairs(*scored),
    )


def _same(a: Estimates, b: Estimates) -> bool:
    pairs = zip(a.columns(), b.columns(), strict=True)
    return all(np.array_equal(x, y, equal_nan=name != "object_id") for (name, x), (_, y) in pairs)


def shift(z_a: FloatArray, z_b: FloatArray) -> Shift:
    """Summarise how redshifts moved from z_a to z_b, both (n,)."""
    dz = residuals(z_b, z_a)
    largest = float(dz[np.argmax(np.abs(dz))])
    return Shift(float(np.median(dz)), sigma_mad(dz), largest, outlier_fraction(dz))


def flag_changes(a: IntArray, b: IntArray) -> dict[str, FlagChange]:
    """Count the galaxies that gained or lost each flag from a to b, both (n,) masks of `Flag`; omit unchanged flags."""
    changes = {}
    for flag in Flag:
        gained, lost = (int(np.count_nonzero(mask & int(flag))) for mask in (b & ~a, a & ~b))
        if gained or lost:
            changes[str(flag.name)] = FlagChange(gained, lost)
    return changes


def _scored(
    pdfs_a: FloatArray, pdfs_b: FloatArray, grid_a: RedshiftGrid, grid_b: RedshiftGrid, z_spec: npt.ArrayLike
) -> tuple[GalaxyScores, GalaxyScores]:
    z_spec = np.asarray(z_spec, dtype=np.float64)
    if z_spec.shape != (len(pdfs_a),):
        raise InvalidRedshifts(f"expected {len(pdfs_a)} true redshifts, one for each galaxy, got shape {z_spec.shape}")
    rows = grid_a.contains(z_spec) & grid_b.contains(z_spec)
    if not rows.any():
        z_max = min(grid_a.z_max, grid_b.z_max)
        raise InvalidRedshifts(f"none of the {len(z_spec)} z_spec is on both grids: expected 0 <= z <= {z_max:g}")
    scores_a = galaxy_scores(pdf.as_pdfs(pdfs_a[rows], grid_a), z_spec[rows], grid_a)
    return scores_a, galaxy_scores(pdf.as_pdfs(pdfs_b[rows], grid_b), z_spec[rows], grid_b)
