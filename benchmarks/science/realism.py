"""The simulated images compared with SDSS's own files.

FOLDER holds files as SDSS publishes them: `psField-*.fit`, the `photoObj-*.fits` of the same fields if there are any,
`frame-*.fits*` and aligned images named `reprojected_sdss_<band>.fits*`. Three tables: optics and noise of each band;
noise in the images, in blocks of growing size; flux that the simulation keeps.

    python -m benchmarks.science realism [FOLDER]
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness.environment import ROOT
from benchmarks.harness.results import table
from benchmarks.science.sdss_files import (
    BANDS,
    Conditions,
    block_noise,
    correlation,
    fwhm,
    is_sky,
    read_field,
    read_image,
)
from photoz.grid import FloatArray
from photoz.images import SDSS_IMAGES, measure_border
from photoz.io.reader import open_cutouts
from training.catalogue import read_kcorrect
from training.galaxies import USUAL, Galaxies, draw_galaxies
from training.imaging_surveys import sdss
from training.render import PSF_AMPLITUDE_RATIO, PSF_SIGMA_RATIO, add_noise, render, render_with_galsim
from training.sample import make_sample

FOLDER = ROOT.parent / "shared" / "data" / "sdss"
TOLERANCE = 0.01  # of a value: less beyond the files' range gets no remark
BLOCKS = (0.396, 1.188, 2.376, 4.752)  # arcsec: sides of the blocks of pixels in which noise is measured
STAMPS = 15  # side of the mosaic of simulated cutouts that is measured like an image
N_FLUX = 100  # random galaxies, and as many of the widest, whose fluxes are summed
WIDE = 512  # pixels: a stamp that holds all of any galaxy's light

CONDITIONS = f"""\
Seeing and sky noise are simulated with a scatter of {USUAL.band_scatter:.0%} from field to field: these are medians.
In brackets: how far a simulated value lies outside the range of the psField files.
"""

NOISE = """
Noise per SDSS pixel, nanomaggies: deviation of the means of blocks of sky times the root of the SDSS pixels in a
block. In resampled images neighbours are correlated, so that small blocks show too little noise. Wide blocks also hold
light too faint to be masked, also in frames that were not resampled and in simulated images.
"""

QUANTITIES = {
    "fwhm_image": ("PSF FWHM, image, arcsec", ".2f"),
    "fwhm_model": ("PSF FWHM, double Gaussian, arcsec", ".2f"),
    "sigma_ratio": ("PSF sigma2 / sigma1", ".2f"),
    "amplitude_ratio": ("PSF amplitude b", ".3f"),
    "electrons": ("electrons per nanomaggy", ".0f"),
    "sky_sigma": ("sky noise per pixel, nanomaggies", ".4f"),
    "pixel_scale": ("pixel, arcsec", ".4f"),
}


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    folder = Path(arguments[0]) if arguments else FOLDER
    fields = {path.stem: read_field(path) for path in sorted(folder.glob("psField-*.fit"))}
    if not fields:
        raise SystemExit(f"no psField-*.fit in {folder}: expected a folder with SDSS's files as the only argument")
    sample = draw_sample(STAMPS**2)
    print(CONDITIONS, *conditions_table(fields, measure_drawing(sample)), sep="\n")
    print(NOISE, *noise_table(folder, sample), sep="\n")
    print(f"\nFlux, worst of {2 * N_FLUX} galaxies, percent.\n", *flux_table(), sep="\n")


def draw_sample(n: int) -> FloatArray:
    """Draw the first n galaxies of the sample, with noise and neighbours, as `training.cli sample` does."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        make_sample(read_kcorrect().head(n), path, SDSS_IMAGES, workers=1)
        with open_cutouts(path) as cutouts:
            return np.asarray(cutouts.images[:])


def measure_drawing(sample: FloatArray) -> Conditions:
    """Measure the quantities of the files in simulated pixels: noise at the borders, width of a star, gain."""
    width = SDSS_IMAGES.pixel_scale * np.array([fwhm(star) for star in np.moveaxis(draw_star(), -1, 0)])
    return Conditions(
        fwhm_image=width,
        fwhm_model=width,
        sigma_ratio=np.full(len(BANDS), PSF_SIGMA_RATIO),
        amplitude_ratio=np.full(len(BANDS), PSF_AMPLITUDE_RATIO),
        electrons=drawn_electrons(),
        sky_sigma=np.median(measure_border(sample.astype(np.float32)).noise, axis=0),
        pixel_scale=np.full(len(BANDS), SDSS_IMAGES.pixel_scale),
    )


def draw_star() -> FloatArray:
    """Draw a star in median seeing, centred on a pixel, shape (64, 64, 5)."""
    star = draw_galaxies(np.ones((1, len(BANDS))), SDSS_IMAGES, np.random.default_rng(0))
    seeing = np.array([[sdss().observations[band].fwhm for band in BANDS]])
    point = replace(star, half_light_radius=np.array([0.001]), offset=np.array([[0.5, 0.5]]), fwhm=seeing)
    return np.asarray(render(point, SDSS_IMAGES)[0], dtype=np.float64)


def drawn_electrons(level: float = 100.0) -> FloatArray:
    """Photo-electrons per nanomaggy of flat cutouts, shape (5,): their level over the variance that it adds."""
    fluxes = np.ones((100, len(BANDS)))
    galaxies = draw_galaxies(fluxes, SDSS_IMAGES, np.random.default_rng(1))
    flat = np.full((len(fluxes), *SDSS_IMAGES.shape), level)
    bright, dark = (
        add_noise(light, galaxies, SDSS_IMAGES, np.random.default_rng(seed)).astype(np.float64).var(axis=(1, 2))
        for seed, light in enumerate((flat, 0.0 * flat))
    )
    return np.asarray(level / (bright - dark).mean(axis=0))


def conditions_table(fields: dict[str, Conditions], drawn: Conditions) -> list[str]:
    """Lines of the table of optics and noise; simulated values outside the files' range are marked."""
    rows = []
    for name, (label, form) in QUANTITIES.items():
        values = np.stack([getattr(field, name) for field in fields.values()])
        for field, row in zip(fields, values, strict=True):
            rows.append((f"{label}: {field}", *(_number(value, form) for value in row)))
        bands = zip(getattr(drawn, name), np.fmin.reduce(values), np.fmax.reduce(values), strict=True)  # not of NaN
        rows.append((f"{label}: **drawn**", *(_judged(*band, form) for band in bands)))
    return table(("", *BANDS), rows).splitlines()


def _judged(value: float, low: float, high: float, form: str) -> str:
    beyond = value / (high if value > high else low if value < low else value) - 1.0
    remark = "" if abs(beyond) <= TOLERANCE else f" ({abs(beyond):.0%} {'above' if beyond > 0 else 'below'})"
    return f"{value:{form}}{remark}"


def noise_table(folder: Path, sample: FloatArray) -> list[str]:
    """Lines of the table of noise in images: of the folder's, and of a mosaic of the sample."""
    rows = []
    for path in sorted([*folder.glob("frame-*.fits*"), *folder.glob("reprojected_sdss_?.fits*")]):
        image, scale = read_image(path)
        rows.append((f"{path.name.partition('.')[0]}, {scale:.2f} arcsec", *_noises(image, scale)))
    side = STAMPS * SDSS_IMAGES.size
    mosaics = sample.reshape(STAMPS, STAMPS, *SDSS_IMAGES.shape).swapaxes(1, 2).reshape(side, side, len(BANDS))
    for band, mosaic in zip(BANDS, np.moveaxis(mosaics, -1, 0), strict=True):
        rows.append((f"**drawn**, {band}", *_noises(mosaic, SDSS_IMAGES.pixel_scale)))
    blocks = (f"blocks of {side:.1f} arcsec" for side in BLOCKS)
    return table(("", *blocks, "correlation of neighbours"), rows).splitlines()


def _noises(image: FloatArray, scale: float) -> Iterator[str]:
    sky = np.where(is_sky(image, scale), image, np.nan).astype(np.float64)
    for side in BLOCKS:
        # An image that was averaged over SDSS pixels has no blocks below its own pixel.
        n = round(side / scale)
        yield _number(block_noise(sky, n) * n * scale / SDSS_IMAGES.pixel_scale if n else np.nan, ".4f")
    yield _number(correlation(sky), ".2f")


def flux_table() -> list[str]:
    """Lines of the table of fluxes of random galaxies and the widest: against GalSim's, and all of their light."""
    rng = np.random.default_rng(0)
    sample = draw_galaxies(read_kcorrect().fluxes, SDSS_IMAGES, rng)
    widest = np.argsort(sample.half_light_radius / np.sqrt(sample.axis_ratio))[-N_FLUX:]
    galaxies = _rows(sample, np.append(rng.choice(len(sample), N_FLUX, replace=False), widest))
    ours, galsim = (draw(galaxies, SDSS_IMAGES).sum(axis=(1, 2)) for draw in (render, render_with_galsim))
    wide = replace(SDSS_IMAGES, size=WIDE)
    one_by_one = (_rows(galaxies, np.array([row])) for row in range(len(galaxies)))
    whole = np.concatenate([render(one, wide).sum(axis=(1, 2)) for one in one_by_one])
    ratios = {"cutout / GalSim's": ours / galsim, "all light / catalogue": whole / galaxies.fluxes}
    worst = {label: 100 * np.abs(ratio - 1.0).max(axis=0) for label, ratio in ratios.items()}
    return table(("", *BANDS), [(label, *(f"{one:.4f}" for one in of)) for label, of in worst.items()]).splitlines()


def _rows(galaxies: Galaxies, rows: Any) -> Galaxies:
    return Galaxies(**{name: values[rows] for name, values in vars(galaxies).items()})


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"
