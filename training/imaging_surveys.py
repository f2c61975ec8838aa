"""Imaging surveys: their bands, pixels, Galactic extinction, seeing and depth, by name or from a file.

`training/surveys/*.toml` are the known surveys; a file for any other survey has the same form.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError, model_validator

from photoz.errors import InvalidInput
from photoz.images import ZERO_POINT, ImageSpec
from photoz.io.bands import model_bands
from training.camera import Camera, Magnitude, Positive, Record

FOLDER = Path(__file__).parent / "surveys"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))

# Shape of the PSF, a double Gaussian as fitted by SDSS's photo pipeline: sigma2 / sigma1 and the ratio of the central
# amplitudes, medians of psf_sigma2_2G / psf_sigma1_2G and psf_b_2G of the psField file of run 5754 over the bands.
PSF_SHAPE = (2.4, 0.09)


@dataclass(frozen=True)
class Observation:
    """Observing conditions in one band."""

    fwhm: float  # median, of the PSF, arcsec
    sky_sigma: float  # median, of the sky noise per pixel, nanomaggies
    electrons: float  # photo-electrons per nanomaggy; infinite for galaxies without photon noise
    psf_shape: tuple[float, float] = PSF_SHAPE
    camera: Camera | None = None  # from which the noise follows


class Band(Record):
    """One band of a survey; missing values are unknown."""

    extinction: Annotated[float, Field(ge=0, le=20)] | None = None  # A / E(B-V), for the E(B-V) of SFD
    fwhm: Positive | None = None  # median of the PSF, arcsec
    psf_shape: tuple[Positive, Positive] = PSF_SHAPE
    sky_sigma: Positive | None = None  # of the sky noise per pixel, nanomaggies
    depth: Magnitude | None = None  # AB magnitude of a point source at 5 sigma, instead of sky_sigma
    electrons: Positive | None = None  # photo-electrons per nanomaggy
    camera: Camera | None = None  # instead of sky_sigma and electrons

    def observation(self, pixel_scale: float) -> Observation | None:
        """Return the conditions for drawing galaxies; None if they are unknown."""
        if self.fwhm is None or (self.sky_sigma is None and self.depth is None and self.camera is None):
            return None
        if self.camera is not None:
            return Observation(self.fwhm, *self.camera.median_noise(pixel_scale), self.psf_shape, self.camera)
        sky_sigma = self.sky_sigma or _sky_sigma(self.depth or 0.0, self.fwhm / pixel_scale)
        return Observation(self.fwhm, sky_sigma, self.electrons or np.inf, self.psf_shape)


def _sky_sigma(depth: float, fwhm: float) -> float:
    """Noise per pixel with which a point source is measured at 5 sigma, for a Gaussian PSF of `fwhm` pixels.

    With the PSF as weights, the best ones, the noise is that of 4 pi sigma^2 pixels.
    """
    flux = 10.0 ** (0.4 * (ZERO_POINT - depth))
    return float(flux / (5.0 * np.sqrt(4.0 * np.pi) * fwhm / FWHM_PER_SIGMA))


class Survey(Record):
    """An imaging survey."""

    title: str
    pixel_scale: Positive  # arcsec
    unit: str = ""  # of the pixels of its images
    zero_point: float | None = None  # AB magnitude of a pixel with the value 1, if they have no unit
    extinction_source: str = ""
    psf_source: str = ""
    bands: dict[str, Band]  # from blue to red

    @model_validator(mode="after")
    def _check_bands(self) -> "Survey":
        if not self.bands:
            raise ValueError("expected one or more bands")
        return self

    def images(self, bands: tuple[str, ...] = (), size: int = 64) -> ImageSpec:
        """Return the layout of cutouts in nanomaggies, by default in all bands.

        Names may be in upper case and begin with that of the survey, "DES_G". Other bands have no extinction.
        """
        bands = bands or tuple(self.bands)
        records = (self.bands.get(model_bands((name,), tuple(self.bands))[0]) for name in bands)
        coefficients = tuple(band.extinction if band else None for band in records)
        return ImageSpec(size, bands, self.pixel_scale, extinction_coefficients=coefficients)

    @property
    def observations(self) -> dict[str, Observation]:
        """Conditions of the bands that can be drawn."""
        conditions = {name: band.observation(self.pixel_scale) for name, band in self.bands.items()}
        return {name: observation for name, observation in conditions.items() if observation}


def read_survey(name: str) -> Survey:
    """Read one of the surveys `NAMES`, or a file; raises `InvalidInput` if it cannot be read."""
    path = FOLDER / f"{name}.toml" if name in NAMES else Path(name)
    try:
        return Survey.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InvalidInput(f"no survey {name}: expected one of {', '.join(NAMES)}, or a file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{path} does not describe a survey: {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as a survey: {error}") from error


@cache
def sdss() -> Survey:
    """Return SDSS, whose galaxies are drawn by default."""
    return read_survey("sdss")


def extinction_caveats(spec: ImageSpec) -> tuple[str, ...]:
    """Name the bands without extinction coefficient, in which E(B-V) corrects nothing."""
    unknown = [band for band, value in zip(spec.bands, spec.extinction_coefficients, strict=True) if value is None]
    if not unknown:
        return ()
    return (f"Not corrected for Galactic extinction in {','.join(unknown)}: no coefficient is known.",)
