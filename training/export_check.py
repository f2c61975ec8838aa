"""Compare the answers of a compiled network with Keras's, as they are served: which differences are let pass."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from photoz import calibration as recalibration
from photoz import ood as ood
from photoz import pdf
from photoz.calibration import Calibration
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.inference.openvino import PDF
from photoz.io.cutouts import Cutouts
from photoz.metrics import crps, residuals, sigma_mad
from photoz.ood import FEATURES, FeatureGroups
from training.predict import network_inputs

# One-sided: a copy that happens to do better is no failure.
MOST_RATIO = 1.01

# Differences of z_mean below this are small beside any error of a redshift; so many galaxies have to keep to it.
NEAR = 0.002
LEAST_NEAR = 0.999

# Galaxies whose flag OUT_OF_DISTRIBUTION may differ: a fraction of the false alarms that it has anyhow.
MOST_FLAG_CHANGES = 0.001

# Cutouts a call: what the service lets through its network at a time.
BATCH = 64

Network = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Model:
    """What belongs to a network beside itself.

    Parameters
    ----------
    spec : ImageSpec
        What the images are.
    grid : RedshiftGrid
        The bins.
    ebv_assumed : float
        What stands in for an unknown E(B-V).
    calibration : Calibration, or None
        Of its PDFs.
    feature_groups : dict of str to FeatureGroup, or None
        What the training images look like.
    ood_threshold : float
        Above which score the flag OUT_OF_DISTRIBUTION is raised.
    """

    spec: ImageSpec
    grid: RedshiftGrid
    ebv_assumed: float
    calibration: Calibration | None = None
    feature_groups: FeatureGroups | None = None
    ood_threshold: float = np.inf


@dataclass(frozen=True)
class Answers:
    """What is served of n galaxies.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Recalibrated; NaN where the network gave no PDF.
    flagged : (n,) bool
        Whether each raises OUT_OF_DISTRIBUTION.
    """

    pdfs: FloatArray
    flagged: np.ndarray


@dataclass(frozen=True)
class Difference:
    """How answers compare with Keras's; the figures are those of `photoz.model.card.EngineCheck`."""

    n_compared: int
    all_finite: bool
    crps_ratio: float
    sigma_mad_ratio: float
    max_z_mean_difference: float
    z_mean_agreement: float
    flag_changes: float

    def objections(self) -> list[str]:
        """Say what speaks against these answers; nothing if they may be served."""
        if not self.all_finite:
            return ["some PDFs are not finite"]
        found = []
        if not self.crps_ratio <= MOST_RATIO:
            found.append(f"CRPS is {self.crps_ratio:.4f} of Keras's, at most {MOST_RATIO:g}")
        if not self.sigma_mad_ratio <= MOST_RATIO:
            found.append(f"sigma_MAD is {self.sigma_mad_ratio:.4f} of Keras's, at most {MOST_RATIO:g}")
        if not self.z_mean_agreement >= LEAST_NEAR:
            found.append(
                f"z_mean is within {NEAR:g} for {self.z_mean_agreement:.4f} of galaxies, expected {LEAST_NEAR:g}"
            )
        if not self.flag_changes <= MOST_FLAG_CHANGES:
            found.append(f"{self.flag_changes:.4f} of galaxies change their flag, at most {MOST_FLAG_CHANGES:g}")
        return found


def batches(cutouts: Cutouts, rows: IntArray, model: Model) -> Iterator[dict[str, np.ndarray]]:
    """Read the inputs of a network, a batch at a time."""
    for start in range(0, len(rows), BATCH):
        yield network_inputs(cutouts, rows[start : start + BATCH], model.spec, model.ebv_assumed)


def ask(network: Network, cutouts: Cutouts, rows: IntArray, model: Model) -> Answers:
    """Let a network answer for some galaxies.

    Parameters
    ----------
    network : function
        Inputs by name -> outputs "pdf" and perhaps "features".
    cutouts : Cutouts
        Open.
    rows : (n,) int
        Which of them.
    model : Model
        What makes answers of its outputs.

    Returns
    -------
    Answers
        Of n galaxies.
    """
    answers = [_served(network(inputs), inputs["images"], model) for inputs in batches(cutouts, rows, model)]
    return Answers(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


def _served(outputs: Mapping[str, np.ndarray], images: np.ndarray, model: Model) -> tuple[FloatArray, np.ndarray]:
    pdfs = pdf.from_network(outputs[PDF])
    good = np.isfinite(pdfs[:, 0])
    pdfs[good] = recalibration.apply(pdfs[good], model.calibration)
    if model.feature_groups is None:
        return pdfs, np.zeros(len(pdfs), dtype=bool)
    seen = ood.extract_features(images, outputs[FEATURES] if FEATURES in model.feature_groups else None)
    return pdfs, ood.score(model.feature_groups, seen) > model.ood_threshold


def compare(answers: Answers, keras: Answers, z_spec: FloatArray, grid: RedshiftGrid) -> Difference:
    """Compare the answers of a compiled network with Keras's.

    Parameters
    ----------
    answers, keras : Answers
        For the same n galaxies.
    z_spec : (n,) float
        Their redshifts, on the grid.
    grid : RedshiftGrid
        The bins.

    Returns
    -------
    Difference
        All is NaN where a PDF is.
    """
    ours, theirs = pdf.mean(answers.pdfs, grid), pdf.mean(keras.pdfs, grid)
    difference = np.abs(ours - theirs)
    return Difference(
        n_compared=len(z_spec),
        all_finite=bool(np.isfinite(answers.pdfs).all()),
        crps_ratio=_ratio(crps(answers.pdfs, z_spec, grid).mean(), crps(keras.pdfs, z_spec, grid).mean()),
        sigma_mad_ratio=_ratio(sigma_mad(residuals(ours, z_spec)), sigma_mad(residuals(theirs, z_spec))),
        max_z_mean_difference=float(difference.max()),
        z_mean_agreement=float(np.mean(difference < NEAR)),
        flag_changes=float(np.mean(answers.flagged != keras.flagged)),
    )


def _ratio(ours: float, theirs: float) -> float:
    """Return their ratio; 1 for equals, though both be 0, as sigma_MAD is of a single galaxy."""
    return 1.0 if ours == theirs else float(np.divide(ours, theirs))
