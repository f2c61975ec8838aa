"""Catalogue methods as baselines for the network, on the same galaxies.

Each takes dereddened colours and a magnitude, from the catalogue or measured on the cutouts, and returns Gaussian PDFs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray, FloatArray, IntArray, RedshiftGrid
from photoz.images import Batch, ImageSpec
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from training.galaxies import Galaxies
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise
from training.splits import group_by_galaxy, numbers

NEIGHBOURS = 100  # Beck et al. 2016 (MNRAS 460, 1371), sec. 2.2
CLIP = 3.0  # neighbours beyond this many sigma are left out of a second fit, ibid.
RIDGE = 1e-9  # keeps the equations solvable if neighbours coincide
MIN_SIGMA = 1e-3
MIN_GALAXIES = 5  # to train on: one for each fold of a cross-validation
CHUNK = 512

# Columns of `training.sample` with the shapes of the galaxies.
SHAPE_COLUMNS = tuple(field.name for field in fields(Galaxies) if field.name != "fluxes")

# Columns with one number per band.
BAND_COLUMNS = ("magnitudes", "fwhm", "psf_sigma_ratio", "psf_amplitude_ratio", "sky_sigma")


def check_columns(cutouts: Cutouts, spec: ImageSpec) -> None:
    """Raise `InvalidDataset` if the cutouts have a column that the methods use, with a wrong shape."""
    for name in cutouts.columns.keys() & {*SHAPE_COLUMNS, *BAND_COLUMNS}:
        per_galaxy, what = ((len(spec.bands),), ", one number per band") if name in BAND_COLUMNS else ((), "")
        expected = len(cutouts), *((2,) if name == "offset" else per_galaxy)
        if (shape := cutouts.columns[name].shape) != expected:
            raise InvalidDataset(f"expected the column {name!r} of shape {expected}{what}, got {shape}")


def baseline_scores(
    cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, ebv: FloatArray
) -> dict[str, dict[str, Score]]:
    """Score every method on every kind of photometry that the cutouts have; catalogue photometry has to be finite.

    `ebv`, (n,) and finite, is the E(B-V) of all cutouts. Returns method -> metric -> Score on the test galaxies. The
    methods are trained on the first cutout of each other galaxy; the result is empty if there are fewer than five.
    """
    z_spec = np.asarray(cutouts.column("z_spec"), dtype=np.float64)
    usable = grid.contains(z_spec)
    others, _ = group_by_galaxy(cutouts, np.flatnonzero(usable & np.isin(cutouts.column("split"), (TRAIN, VALIDATION))))
    test = np.flatnonzero(usable & (cutouts.column("split") == TEST))
    if len(others) < MIN_GALAXIES:
        return {}
    scores = {}
    for source, magnitudes in _photometries(cutouts, np.concatenate([others, test]), spec, ebv).items():
        features, test_features = np.split(colours_and_magnitude(magnitudes), [len(others)])
        for method, predict in METHODS.items():
            z_phot, sigma = predict(features, z_spec[others], test_features)
            pdfs = gaussian_pdfs(z_phot, sigma, grid)
            scores[f"{method}, {source}"] = summarise(galaxy_scores(pdfs, z_spec[test], grid))
    return scores


def _photometries(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> dict[str, FloatArray]:
    """Dereddened magnitudes (m, n_bands) of some galaxies, by their source."""
    photometries: dict[str, FloatArray] = {}
    if "magnitudes" in cutouts.columns:
        magnitudes = numbers(cutouts, "magnitudes", rows)
        if np.isfinite(magnitudes).all():  # the methods need all of them
            photometries["catalogue photometry"] = magnitudes - spec.extinction * ebv[rows, None]
    photometries["aperture fluxes of the cutouts"] = aperture_magnitudes(cutouts, rows, spec, ebv)
    if all(name in cutouts.columns for name in (*SHAPE_COLUMNS, "sky_sigma")):
        photometries["true-profile fluxes of the cutouts"] = profile_magnitudes(cutouts, rows, spec, ebv)
    return photometries


def profile_magnitudes(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> FloatArray:
    """Dereddened asinh magnitudes (m, n_bands) of rows (m,) under each galaxy's true profile: the photon limit.

    The best fit of a known profile is the sum of the pixels weighted by it. Neighbours are not subtracted. The finite
    `ebv` (n,) is that of all cutouts.
    """
    measured = (_fit_profiles(cutouts, chunk, spec) for chunk in _chunks(rows, "fit profiles"))
    return _magnitudes(measured, ebv[rows], spec)


def aperture_magnitudes(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv: FloatArray) -> FloatArray:
    """Dereddened asinh magnitudes (m, n_bands) of rows (m,) under a Gaussian with sigma an eighth of the side."""
    measured = (_sum_apertures(cutouts, chunk, spec) for chunk in _chunks(rows, "sum apertures"))
    return _magnitudes(measured, ebv[rows], spec)


def _chunks(rows: IntArray, title: str) -> Iterator[IntArray]:
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    yield from tqdm(chunks, desc=title, unit="chunk", leave=False)


def _magnitudes(measured: Iterable[tuple[FloatArray, FloatArray]], ebv: FloatArray, spec: ImageSpec) -> FloatArray:
    """Dereddened asinh magnitudes (m, n_bands) of fluxes and noise that were measured in chunks."""
    fluxes, noise = (np.concatenate(part) for part in zip(*measured, strict=True))
    return asinh_magnitudes(deredden(fluxes, ebv, spec), np.median(noise, axis=0))


def _fit_profiles(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> tuple[FloatArray, FloatArray]:
    """Fluxes under the true profiles and their noise from the sky, each (m, n_bands)."""
    from training.render import render  # needs GalSim, as did the cutouts

    shapes = {name: numbers(cutouts, name, rows) for name in SHAPE_COLUMNS}
    profiles = render(Galaxies(fluxes=np.ones((len(rows), len(spec.bands))), **shapes), spec).astype(np.float64)
    square = (profiles**2).sum(axis=(1, 2))
    images = Batch.of(cutouts.read_images(rows), spec).images
    return (profiles * images).sum(axis=(1, 2)) / square, numbers(cutouts, "sky_sigma", rows) / np.sqrt(square)


def _sum_apertures(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> tuple[FloatArray, FloatArray]:
    """Fluxes (m, n_bands) under a Gaussian, and their noise from the sky, (1, n_bands)."""
    weight = gaussian_aperture(spec.size, REFERENCE_SIGMA * spec.size)
    images = Batch.of(cutouts.read_images(rows), spec).images
    return measure(images, weight), sky_noise(images)[np.newaxis] * np.sqrt((weight**2).sum())


def colours_and_magnitude(magnitudes: FloatArray) -> FloatArray:
    """Differences of adjacent bands and the magnitude in the middle one, (n, n_bands)."""
    middle = magnitudes.shape[1] // 2
    return np.concatenate([magnitudes[:, :-1] - magnitudes[:, 1:], magnitudes[:, middle : middle + 1]], axis=1)


def local_linear_regression(
    features: FloatArray, z_spec: FloatArray, test_features: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit a plane to the 100 nearest neighbours of each galaxy in standardised features (Beck et al. 2016).

    From galaxies with features (n, d) and z_spec (n,), predict those with features (m, d): the value of the plane and
    the scatter of the neighbours about it, (m,) each.
    """
    scale = features.std(axis=0)
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(features))).fit(features / scale)
    parts = []
    for start in range(
        0, len(test_features), CHUNK
    ):  # all at once would take a hundred times the memory of the features
        chunk = test_features[start : start + CHUNK]
        index = neighbours.kneighbors(chunk / scale, return_distance=False)
        # Relative to the galaxy itself, the intercept is the prediction.
        parts.append(_clipped_planes((features[index] - chunk[:, None]) / scale, z_spec[index]))
    z_phot, sigma = (np.concatenate(part) for part in zip(*parts, strict=True))
    return z_phot, np.maximum(sigma, MIN_SIGMA)


def _clipped_planes(offsets: FloatArray, z_spec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit planes to neighbours (m, k, d), then again without outliers; return intercepts and scatter, (m,) each."""
    design = np.concatenate([np.ones((*z_spec.shape, 1)), offsets], axis=2)
    _, residuals, sigma = _fit_planes(design, z_spec, np.ones(z_spec.shape, dtype=bool))
    z_phot, _, sigma = _fit_planes(design, z_spec, np.abs(residuals) < CLIP * sigma[:, None])
    return z_phot, sigma


def _fit_planes(design: FloatArray, z_spec: FloatArray, used: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit each galaxy's plane to some of its neighbours; return intercepts, residuals and their scatter."""
    weighted = np.swapaxes(design * used[..., None], 1, 2)
    normal = weighted @ design + RIDGE * np.eye(design.shape[2])
    coefficients = np.linalg.solve(normal, weighted @ z_spec[..., None])
    residuals = z_spec - (design @ coefficients)[..., 0]
    return coefficients[:, 0, 0], residuals, np.sqrt((residuals**2 * used).sum(axis=1) / used.sum(axis=1))


def boosted_trees(features: FloatArray, z_spec: FloatArray, test_features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient-boosted trees, called like `local_linear_regression`; all errors are the scatter in cross-validation."""
    trees = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.05, early_stopping=False, random_state=0)
    residuals = z_spec - cross_val_predict(trees, features, z_spec, cv=5)
    sigma = max(1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))), MIN_SIGMA)
    return trees.fit(features, z_spec).predict(test_features), np.full(len(test_features), sigma)


METHODS = {"local linear regression": local_linear_regression, "gradient-boosted trees": boosted_trees}


def gaussian_pdfs(mean: FloatArray, sigma: FloatArray, grid: RedshiftGrid) -> FloatArray:
    """Integrate Gaussians with means (n,), clipped to the grid, and sigmas (n,) over the bins; (n, n_bins)."""
    mean = np.clip(mean, 0.0, grid.z_max)
    pdfs = np.diff(norm.cdf(grid.edges, mean[:, None], sigma[:, None]), axis=1)
    return np.asarray(pdfs / pdfs.sum(axis=1, keepdims=True))
