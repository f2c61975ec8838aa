"""A model on real pixels: the isolated sources of one SDSS field in five bands.

FOLDER holds the frames of a field as SDSS publishes them, `frame-<band>-<run>-<camcol>-<field>.fits*`. Each source of
14.5 < r < 18.5 that is far from others gets a cutout; the table gives its flags and estimates. E(B-V) is unknown to the
model. The field of the shared files has a globular cluster, so nearly all of its sources are stars, and no redshifts;
one of them is an elliptical galaxy, `GALAXY`.

    python -m benchmarks.science real_field [BUNDLE] [FOLDER]
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from benchmarks.harness.environment import CPUS, ROOT, SHIPPED
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import BoolArray, FloatArray
from photoz.images import SDSS_IMAGES, Batch
from photoz.inference.engines import AUTO
from photoz.inference.predictor import Predictor
from photoz.io.cutouts import TEST, Cutouts
from photoz.model.bundle import ModelBundle
from training.baselines import colours_and_magnitude, local_linear_regression
from training.photometry import asinh_magnitudes, deredden, gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise
from training.splits import group_by_galaxy

FOLDER = ROOT.parent / "shared" / "data" / "sdss"
FIELD = "002583-2-0136"

GALAXY = (1848.7, 1439.4)  # x and y in the r frame, from 0
GALAXY_EBV = 0.04  # assumed: the frames do not say it

THRESHOLD = 10.0  # of a source in the smoothed r image, in units of its noise
APERTURE = 8  # pixels: half the side of the box in which a source's flux is summed
MAGNITUDES = (14.5, 18.5)  # in r
ISOLATION = 20.0  # pixels to the next source with at least `BRIGHT` of the flux
BRIGHT = 0.2


@dataclass(frozen=True)
class Sources:
    """n sources of a field."""

    x: FloatArray  # (n,) pixels of the r frame, from 0
    y: FloatArray
    r: FloatArray  # (n,) magnitudes
    cutouts: FloatArray  # (n, 64, 64, 5) float32, nanomaggies

    def nearest(self, x: float, y: float) -> int:
        """Return the row of the source that is nearest to a place in the r frame."""
        return int(np.argmin(np.hypot(self.x - x, self.y - y)))


def read_sources(folder: Path, field: str = FIELD) -> Sources:
    """Find the isolated sources of a field and cut them out of its five frames, to the nearest pixel of each."""
    paths = [next(folder.glob(f"frame-{band}-{field}.fits*")) for band in SDSS_IMAGES.bands]
    frames = [fits.getdata(path, header=True) for path in paths]
    image, header = frames[2]
    x, y, fluxes = _detect(image.astype(np.float64))
    magnitudes = 22.5 - 2.5 * np.log10(fluxes)
    wanted = (magnitudes > MAGNITUDES[0]) & (magnitudes < MAGNITUDES[1]) & _isolated(x, y, fluxes)
    sky = WCS(header).all_pix2world(x, y, 0)
    places = [np.rint(WCS(header).all_world2pix(*sky, 0)).astype(int) for _, header in frames]
    half = SDSS_IMAGES.size // 2
    height, width = image.shape
    for columns, rows in places:
        wanted &= (columns >= half) & (columns < width - half) & (rows >= half) & (rows < height - half)
    cutouts = np.stack(
        [
            [frame[row - half : row + half, column - half : column + half] for column, row in place.T[wanted]]
            for (frame, _), place in zip(frames, map(np.stack, places), strict=True)
        ],
        axis=-1,
    )
    return Sources(x[wanted], y[wanted], magnitudes[wanted], cutouts.astype(np.float32))


def _detect(image: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions (n,) of the local maxima of the smoothed image, and the fluxes in a box around each."""
    smooth = ndimage.gaussian_filter(image, 1.5)
    noise = 1.4826 * np.median(np.abs(smooth - np.median(smooth)))
    is_peak = (smooth == ndimage.maximum_filter(smooth, 7)) & (smooth > THRESHOLD * noise)
    y, x = np.nonzero(is_peak)
    fluxes = ndimage.uniform_filter(image, 2 * APERTURE + 1)[y, x] * (2 * APERTURE + 1) ** 2
    good = fluxes > 0
    return x[good].astype(float), y[good].astype(float), fluxes[good]


def _isolated(x: FloatArray, y: FloatArray, fluxes: FloatArray) -> BoolArray:
    """Whether no other source of `BRIGHT` of the flux is nearer than `ISOLATION`, (n,)."""
    near = np.hypot(x - x[:, None], y - y[:, None]) < ISOLATION
    np.fill_diagonal(near, False)
    return np.asarray(~(near & (fluxes > BRIGHT * fluxes[:, None])).any(axis=1))


def predict(bundle: ModelBundle, cutouts: FloatArray, ebv: FloatArray | None = None, engine: str = AUTO) -> Estimates:
    """Estimate the redshifts of cutouts (n, 64, 64, 5), as if they were galaxies; `ebv` (n,) is unknown by default."""
    batch = Batch.of(cutouts, bundle.card.image, ebv, bundle.card.inputs.ebv_default)
    return Predictor.load(bundle, engine=engine, threads=CPUS).predict(batch)


def catalogue_method(cutouts: FloatArray, ebv: FloatArray, sample: Cutouts) -> tuple[FloatArray, FloatArray]:
    """Estimate redshifts (n,) and their errors (n,) from the fluxes of the same pixels, by local linear regression.

    Fluxes are those in a Gaussian aperture with sigma an eighth of the side, here and in the rendered cutouts of
    `sample` with z_spec, from which the method learns: the first one of each galaxy that is not for testing.
    """
    rows, _ = group_by_galaxy(sample, np.flatnonzero(sample.column("split") != TEST))
    weight = gaussian_aperture(SDSS_IMAGES.size, REFERENCE_SIGMA * SDSS_IMAGES.size)
    parts = [sample.read_images(some) for some in np.array_split(rows, -(-len(rows) // 512))]
    softening = sky_noise(parts[0]) * np.linalg.norm(weight)

    def features(fluxes: FloatArray, ebv: FloatArray) -> FloatArray:
        return colours_and_magnitude(asinh_magnitudes(deredden(fluxes, ebv, SDSS_IMAGES), softening))

    known = features(np.concatenate([measure(part, weight) for part in parts]), sample.column("ebv")[rows])
    return local_linear_regression(known, sample.column("z_spec")[rows], features(measure(cutouts, weight), ebv))


def main(arguments: Sequence[str]) -> None:
    """Print how many sources have each flag, and those that are not out of distribution."""
    given = [Path(argument) for argument in arguments]
    bundle_path, folder = (*given, *(SHIPPED, FOLDER)[len(given) :])
    bundle, sources = ModelBundle.load(bundle_path), read_sources(folder)
    estimates = predict(bundle, sources.cutouts)
    counts = Counter(flag.name for flags in estimates.flags for flag in Flag(int(flags)))
    print(f"{bundle.card.name} {bundle.card.version}: {len(sources.x)} sources; {dict(counts)}")
    for row in np.flatnonzero(estimates.flags & Flag.OUT_OF_DISTRIBUTION == 0):
        source = f"x {sources.x[row]:.1f}, y {sources.y[row]:.1f}, r {sources.r[row]:.2f}"
        interval = f"68 % in {estimates.z_lo68[row]:.3f} to {estimates.z_hi68[row]:.3f}"
        ood = f"score {estimates.ood_score[row]:.2f}, flags {Flag(int(estimates.flags[row]))!r}"
        print(f"{source}: z {estimates.z_mean[row]:.3f}, {interval}, {ood}")
