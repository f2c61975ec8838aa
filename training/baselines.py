"""Catalogue methods on the very same galaxies: the honest bar for a network.

Each takes dereddened colours and a magnitude, from the catalogue or measured on the cutouts, and gives a Gaussian PDF.
"""

from collections.abc import Iterable

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray, FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec, as_image_batch
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise
from training.rows import galaxies

NEIGHBOURS = 100  # Beck et al. 2016 (MNRAS 460, 1371), sec. 2.2
CLIP = 3.0  # neighbours beyond so many sigma are left out and the plane is fitted again, ibid.
RIDGE = 1e-9  # keeps the equations solvable where neighbours coincide
MIN_SIGMA = 1e-3
CHUNK = 512

# What `training.sample` keeps of the shape of each galaxy that it drew.
SHAPE_COLUMNS = (
    "half_light_radius",
    "axis_ratio",
    "position_angle",
    "bulge_fraction",
    "offset",
    "fwhm",
    "sky_sigma",
)


# Columns that hold a number for each band.
BAND_COLUMNS = ("magnitudes", "fwhm", "sky_sigma")


def check_band_columns(cutouts: Cutouts, spec: ImageSpec) -> None:
    """Refuse columns of other bands than the images', before hours are spent.

    Parameters
    ----------
    cutouts : Cutouts
        The n galaxies.
    spec : ImageSpec
        What the images are.

    Raises
    ------
    InvalidDataset
        If one of `BAND_COLUMNS` that is there is not of shape (n, n_bands).
    """
    expected = len(cutouts), len(spec.bands)
    for name in BAND_COLUMNS:
        if name in cutouts.columns and (shape := cutouts.columns[name].shape) != expected:
            raise InvalidDataset(f"expected the column {name!r} of shape {expected}, a number a band, got {shape}")


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
        Name of the method -> figure -> Score, on the test galaxies. Trained on the first cutout of all others.
    """
    z_spec = cutouts.column("z_spec")
    usable = grid.contains(z_spec)
    known, _ = galaxies(cutouts, np.flatnonzero(usable & np.isin(cutouts.column("split"), (TRAIN, VALIDATION))))
    test = np.flatnonzero(usable & (cutouts.column("split") == TEST))
    scores = {}
    for source, magnitudes in _photometries(cutouts, np.concatenate([known, test]), spec, ebv).items():
        features, wanted = np.split(colours_and_magnitude(magnitudes), [len(known)])
        for method, predict in METHODS.items():
            z_phot, sigma = predict(features, z_spec[known], wanted)
            pdfs = gaussian_pdfs(z_phot, sigma, grid)
            scores[f"{method}, {source}"] = summarise(galaxy_scores(pdfs, z_spec[test], grid))
    return scores


def _photometries(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> dict[str, FloatArray]:
    """Dereddened magnitudes (m, n_bands) of some galaxies, by their source."""
    found = {}
    if "magnitudes" in cutouts.columns:
        found["catalogue photometry"] = cutouts.columns["magnitudes"][rows] - spec.extinction * ebv[rows, None]
    found["aperture fluxes of the cutouts"] = aperture_magnitudes(cutouts, rows, spec, ebv)
    if all(name in cutouts.columns for name in SHAPE_COLUMNS):
        found["true-profile fluxes of the cutouts"] = profile_magnitudes(cutouts, rows, spec, ebv)
    return found


def profile_magnitudes(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> FloatArray:
    """Dereddened asinh magnitudes of fluxes under each galaxy's true profile: the limit that its photons allow.

    The flux that fits a known profile best is the sum of the pixels under it. Neighbours are not taken out.

    Parameters
    ----------
    cutouts : Cutouts
        Rendered, with the shapes that they were drawn with; n galaxies.
    rows : (m,) int
        Which of them.
    spec : ImageSpec
        What the images are.
    ebv : (n,) float64
        Reddening, finite.

    Returns
    -------
    (m, n_bands) float64
        Magnitudes.
    """
    measured = [_fit_profiles(cutouts, some, spec) for some in _chunks(rows, "fit profiles")]
    fluxes, noise = (np.concatenate(part) for part in zip(*measured, strict=True))
    return asinh_magnitudes(deredden(fluxes, ebv[rows], spec), np.median(noise, axis=0))


def _fit_profiles(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> tuple[FloatArray, FloatArray]:
    """Fluxes under the true profiles and their noise from the sky, each (m, n_bands)."""
    from training.galaxies import Galaxies  # needs GalSim, as the drawing of the cutouts did
    from training.render import render

    shapes = {name: cutouts.columns[name][rows] for name in SHAPE_COLUMNS}
    profiles = render(Galaxies(fluxes=np.ones((len(rows), len(spec.bands))), **shapes), spec).astype(np.float64)
    square = (profiles**2).sum(axis=(1, 2))
    images = as_image_batch(cutouts.read_images(rows), spec).images
    return (profiles * images).sum(axis=(1, 2)) / square, shapes["sky_sigma"] / np.sqrt(square)


def aperture_magnitudes(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> FloatArray:
    """Dereddened asinh magnitudes of some galaxies under a Gaussian of an eighth of the side, shape (m, n_bands)."""
    weight = gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size)
    measured = [_sum_apertures(cutouts, some, spec, weight) for some in _chunks(rows, "sum apertures")]
    fluxes = np.concatenate([fluxes for fluxes, _ in measured])
    noise = np.median([noise for _, noise in measured], axis=0) * np.sqrt((weight**2).sum())
    return asinh_magnitudes(deredden(fluxes, ebv[rows], spec), noise)


def _sum_apertures(
    cutouts: Cutouts, rows: IntArray, spec: ImageSpec, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fluxes (m, n_bands) under a weight, and the noise of a pixel (n_bands,)."""
    images = as_image_batch(cutouts.read_images(rows), spec).images
    return measure(images, weight), sky_noise(images)


def _chunks(rows: IntArray, what: str) -> Iterable[IntArray]:
    return tqdm(np.array_split(rows, -(-len(rows) // CHUNK)), desc=what, unit="chunk", leave=False)


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
