"""Catalogue methods on the very same galaxies: the honest bar for a network.

Each takes dereddened colours and a magnitude, from the catalogue or measured on the cutouts, and gives a Gaussian PDF.
"""

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from photoz.datasets import TEST, TRAIN, VALIDATION, Cutouts
from photoz.grid import BoolArray, FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec, as_image_batch
from photoz.metrics import Score, galaxy_scores, summarise
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise

NEIGHBOURS = 100  # Beck et al. 2016 (MNRAS 460, 1371), sec. 2.2
CLIP = 3.0  # neighbours beyond so many sigma are left out and the plane is fitted again, ibid.
RIDGE = 1e-9  # keeps the equations solvable where neighbours coincide
MIN_SIGMA = 1e-3
CHUNK = 512


def baseline_scores(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, ebv: FloatArray
) -> dict[str, dict[str, Score]]:
    """Score every method on every photometry that the cutouts allow.

    Parameters
    ----------
    cutouts : Cutouts
        Open, with z_spec and split; with `magnitudes` for the catalogue's photometry.
    spec : ImageSpec
        What the images are.
    grid : RedshiftGrid
        Where the PDFs are binned.
    ebv : (n,) float64
        Reddening of all cutouts, finite.

    Returns
    -------
    dict
        Name of the method -> figure -> Score, on the test galaxies. Trained on all the others.
    """
    z_spec = cutouts.column("z_spec")
    usable = grid.contains(z_spec)
    known = np.flatnonzero(usable & np.isin(cutouts.column("split"), (TRAIN, VALIDATION)))
    test = np.flatnonzero(usable & (cutouts.column("split") == TEST))
    scores = {}
    for source, magnitudes in _photometries(cutouts, spec, ebv).items():
        features = colours_and_magnitude(magnitudes)
        for method, predict in METHODS.items():
            z_phot, sigma = predict(features[known], z_spec[known], features[test])
            pdfs = gaussian_pdfs(z_phot, sigma, grid)
            scores[f"{method}, {source}"] = summarise(galaxy_scores(pdfs, z_spec[test], grid))
    return scores


def _photometries(cutouts: Cutouts, spec: ImageSpec, ebv: FloatArray) -> dict[str, FloatArray]:
    """Dereddened magnitudes (n, n_bands) of all galaxies, by their source."""
    found = {}
    if "magnitudes" in cutouts.columns:
        found["catalogue photometry"] = cutouts.columns["magnitudes"] - spec.extinction * ebv[:, None]
    found["aperture fluxes of the cutouts"] = aperture_magnitudes(cutouts, spec, ebv)
    return found


def aperture_magnitudes(cutouts: Cutouts, spec: ImageSpec, ebv: FloatArray) -> FloatArray:
    """Dereddened asinh magnitudes under a Gaussian of an eighth of the side, shape (n, n_bands)."""
    weight = gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size)
    chunks = np.array_split(np.arange(len(cutouts)), -(-len(cutouts) // CHUNK))
    batches = [_measure_rows(cutouts, rows, spec, weight) for rows in tqdm(chunks, desc="measure", leave=False)]
    fluxes = np.concatenate([fluxes for fluxes, _ in batches])
    noise = np.median([noise for _, noise in batches], axis=0) * np.sqrt((weight**2).sum())
    return asinh_magnitudes(deredden(fluxes, ebv, spec), noise)


def _measure_rows(
    cutouts: Cutouts, rows: IntArray, spec: ImageSpec, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    images = as_image_batch(cutouts.read_images(rows), spec).images
    return measure(images, weight), sky_noise(images)


def colours_and_magnitude(magnitudes: FloatArray) -> FloatArray:
    """Differences of neighbouring bands and the magnitude of the middle one, shape (n, n_bands)."""
    middle = magnitudes.shape[1] // 2
    return np.concatenate([magnitudes[:, :-1] - magnitudes[:, 1:], magnitudes[:, middle : middle + 1]], axis=1)


def local_linear_regression(
    features: FloatArray, z_spec: FloatArray, wanted: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit a plane to the 100 nearest neighbours of each galaxy in standardised features (Beck et al. 2016).

    Parameters
    ----------
    features : (n, d) float
        Of galaxies with known redshift.
    z_spec : (n,) float
        Theirs.
    wanted : (m, d) float
        Of galaxies to be predicted.

    Returns
    -------
    z_phot, sigma : (m,) float
        Value of the plane, and the scatter of the neighbours about it.
    """
    scale = features.std(axis=0)
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(features))).fit(features / scale)
    index = neighbours.kneighbors(wanted / scale, return_distance=False)
    # Centred on the galaxy itself, the intercept is the prediction.
    offsets = (features[index] - wanted[:, None]) / scale
    design = np.concatenate([np.ones((*index.shape, 1)), offsets], axis=2)
    everyone = np.ones(index.shape, dtype=bool)
    _, residuals, sigma = _fit_planes(design, z_spec[index], everyone)
    z_phot, _, sigma = _fit_planes(design, z_spec[index], np.abs(residuals) < CLIP * sigma[:, None])
    return z_phot, np.maximum(sigma, MIN_SIGMA)


def _fit_planes(design: FloatArray, z_spec: FloatArray, taken: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit each galaxy's plane to those of its neighbours that are taken; intercepts, residuals and their scatter."""
    weighted = np.swapaxes(design * taken[..., None], 1, 2)
    normal = weighted @ design + RIDGE * np.eye(design.shape[2])
    coefficients = np.linalg.solve(normal, weighted @ z_spec[..., None])
    residuals = z_spec - (design @ coefficients)[..., 0]
    return coefficients[:, 0, 0], residuals, np.sqrt((residuals**2 * taken).sum(axis=1) / taken.sum(axis=1))


def boosted_trees(features: FloatArray, z_spec: FloatArray, wanted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient-boosted trees; the scatter is that of cross-validated residuals, the same for all galaxies.

    Parameters
    ----------
    features : (n, d) float
        Of galaxies with known redshift.
    z_spec : (n,) float
        Theirs.
    wanted : (m, d) float
        Of galaxies to be predicted.

    Returns
    -------
    z_phot, sigma : (m,) float
        Redshift and its scatter.
    """
    trees = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.05, early_stopping=False, random_state=0)
    residuals = z_spec - cross_val_predict(trees, features, z_spec, cv=5)
    sigma = max(1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))), MIN_SIGMA)
    return trees.fit(features, z_spec).predict(wanted), np.full(len(wanted), sigma)


METHODS = {"local linear regression": local_linear_regression, "gradient-boosted trees": boosted_trees}


def gaussian_pdfs(mean: FloatArray, sigma: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Integrate Gaussians over the bins; a mean beyond the grid is taken to its end; shape (n, n_bins)."""
    mean = np.clip(mean, 0.0, grid.z_max)
    below = norm.cdf(grid.edges, mean[:, None], sigma[:, None])
    pdfs = np.diff(below, axis=1)
    return np.asarray(pdfs / pdfs.sum(axis=1, keepdims=True))
