"""Comparison of a compiled network's predictions with those of Keras, and limits on the differences."""

from dataclasses import dataclass

import numpy as np

from photoz import pdf
from photoz.flags import Flag
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import METRICS, GalaxyScores, galaxy_scores
from training.trained_model import Predictions

# One-sided: a copy that happens to be better is accepted.
MAX_RATIO = 1.01

# A difference of z_mean below NEAR is small compared with any redshift error; this fraction of galaxies must meet it.
NEAR = 0.002
MIN_AGREEMENT = 0.999

# Fraction of galaxies whose flag OUT_OF_DISTRIBUTION may differ: small compared with its rate of false alarms.
MAX_FLAG_CHANGES = 0.001


@dataclass(frozen=True)
class Difference:
    """Differences between predictions and those of Keras, defined in `photoz.model.card.EngineCheck`."""

    n_compared: int
    all_finite: bool
    crps_ratio: float
    sigma_mad_ratio: float
    max_z_mean_difference: float
    z_mean_agreement: float
    flag_changes: float

    def objections(self) -> list[str]:
        """Return the reasons not to serve these predictions, if any."""
        if not self.all_finite:
            return ["some PDFs are not finite"]
        crps, sigma, near, flags = self.crps_ratio, self.sigma_mad_ratio, self.z_mean_agreement, self.flag_changes
        checks = (
            (crps <= MAX_RATIO, f"CRPS is {crps:.4f} of Keras's, at most {MAX_RATIO:g}"),
            (sigma <= MAX_RATIO, f"sigma_MAD is {sigma:.4f} of Keras's, at most {MAX_RATIO:g}"),
            (
                near >= MIN_AGREEMENT,
                f"z_mean is within {NEAR:g} for {near:.4f} of galaxies, expected {MIN_AGREEMENT:g}",
            ),
            (flags <= MAX_FLAG_CHANGES, f"{flags:.4f} of galaxies change their flag, at most {MAX_FLAG_CHANGES:g}"),
        )
        return [objection for passed, objection in checks if not passed]


def compare(compiled: Predictions, keras: Predictions, z_spec: FloatArray, grid: RedshiftGrid) -> Difference:
    """Compare a compiled network with Keras on n galaxies with redshifts (n,); one NaN makes all differences NaN."""
    difference = np.abs(pdf.mean(compiled.pdfs, grid) - pdf.mean(keras.pdfs, grid))
    scores = [galaxy_scores(predictions.pdfs, z_spec, grid) for predictions in (compiled, keras)]
    return Difference(
        n_compared=len(z_spec),
        all_finite=bool(np.isfinite(compiled.pdfs).all()),
        crps_ratio=_ratio("crps", *scores),
        sigma_mad_ratio=_ratio("sigma_mad", *scores),
        max_z_mean_difference=float(difference.max()),
        z_mean_agreement=float(np.mean(difference < NEAR)),
        flag_changes=float(np.mean((compiled.flags ^ keras.flags) & Flag.OUT_OF_DISTRIBUTION != 0)),
    )


def _ratio(metric: str, compiled: GalaxyScores, keras: GalaxyScores) -> float:
    """Return the ratio of a metric; 1 if both are equal, such as 0, the sigma_MAD of a single galaxy."""
    column, compute = METRICS[metric]
    ours, theirs = (compute(getattr(scores, column)) for scores in (compiled, keras))
    return 1.0 if ours == theirs else float(np.divide(ours, theirs))
