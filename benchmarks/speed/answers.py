"""Whether the answers of servers and engines are Keras's: checked before anything is timed."""

import numpy as np

from benchmarks.harness.messages import Pdfs
from photoz import calibration, pdf
from photoz.grid import RedshiftGrid
from photoz.model.bundle import ModelBundle

N = 64  # cutouts
TOLERANCE = 1e-4  # of a bin: the same network in float32
# What an export of a bundle has to reach: 99.9 % of the galaxies within this of Keras's z_mean. With so few cutouts,
# one of them may lie outside.
Z_TOLERANCE, MAY_LIE_OUTSIDE = 0.002, 1


class WrongAnswers(Exception):
    """A server does not give the model's answers."""


def check_same(name: str, pdfs: Pdfs, expected: Pdfs) -> float:
    """Check a peer's PDFs, (n, n_bins), against model.keras's; return the largest difference of a bin."""
    difference = float(np.abs(pdfs - expected).max())
    if not difference < TOLERANCE:
        raise WrongAnswers(f"{name}: PDFs differ from Keras's by {difference:.2g}; at most {TOLERANCE:g} is allowed")
    return difference


def check_close(name: str, grid: RedshiftGrid, pdfs: Pdfs, expected: Pdfs) -> float:
    """Check the PDFs of an engine, (n, n_bins), against model.keras's; return the largest difference in z_mean."""
    difference = np.abs(pdf.mean(pdfs.astype(np.float64), grid) - pdf.mean(expected.astype(np.float64), grid))
    if not np.count_nonzero(difference < Z_TOLERANCE) >= len(difference) - MAY_LIE_OUTSIDE:
        raise WrongAnswers(f"{name}: z_mean differs from Keras's by {difference.max():.2g}; {Z_TOLERANCE} is allowed")
    return float(difference.max())


def recalibrated(bundle: ModelBundle, pdfs: Pdfs) -> Pdfs:
    """Recalibrate a network's PDFs as the service does."""
    return calibration.apply(pdfs.astype(np.float64), bundle.calibration)
