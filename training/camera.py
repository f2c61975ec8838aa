"""The noise of a survey's images, from the brightness of the sky and the electronics of its camera."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from photoz.grid import FloatArray, IntArray
from photoz.images import ZERO_POINT

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Magnitude = Annotated[float, Field(ge=10, le=40)]

# Scatter of the airmass, and of the sky's brightness (mag) where a survey gives none: what all bands share, and the
# band's own. SDSS's quartiles in r (DR7, "Seeing and sky brightness") are those of a scatter of 0.25 mag.
AIRMASS_SCATTER = 0.1
SKY_SCATTER = (0.2, 0.2)


class Record(BaseModel):
    """Part of a file that describes a survey."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(Record):
    """A band of a survey's camera, and the sky that it sees."""

    sky: Magnitude  # brightness, median, AB mag / arcsec^2
    sky_scatter: tuple[NotNegative, NotNegative]  # mag, as `SKY_SCATTER`
    count: Positive  # nanomaggies of one count, median
    count_scatter: NotNegative  # natural logarithm
    airmass_extinction: NotNegative  # mag per airmass
    gain: tuple[Positive, ...]  # photo-electrons per count, by the column of the camera
    dark_variance: tuple[Positive, ...]  # of read-out and dark current, counts^2, by column

    def noise(self, sky: Any, count: Any, column: IntArray, pixel_scale: float) -> tuple[FloatArray, FloatArray]:
        """Return the noise of the sky per pixel in nanomaggies, and the photo-electrons per nanomaggy, (n,) each.

        As SDSS defines gain and dark variance (data model of `frame`): the variance in counts^2 is counts / gain +
        dark variance. `sky` is in mag, `count` in nanomaggies.
        """
        gain, dark_variance = np.array(self.gain)[column], np.array(self.dark_variance)[column]
        in_counts = 10.0 ** (0.4 * (ZERO_POINT - sky)) * pixel_scale**2 / count
        return count * np.sqrt(in_counts / gain + dark_variance), gain / count

    def median_noise(self, pixel_scale: float) -> tuple[float, float]:
        """Return the same, in the median over the columns."""
        parts = self.noise(self.sky, self.count, np.arange(len(self.gain)), pixel_scale)
        sky_sigma, electrons = (float(np.median(part)) for part in parts)
        return sky_sigma, electrons


@dataclass(frozen=True)
class Runs:
    """What the bands of n cutouts share: the run in which they were observed."""

    column: FloatArray  # (n,) of the camera, as a fraction of all
    airmass: FloatArray  # (n,) less the usual one
    sky: FloatArray  # (n,) standard normal

    @classmethod
    def draw(cls, n: int, rng: np.random.Generator) -> "Runs":
        """Draw n runs."""
        return cls(rng.uniform(size=n), AIRMASS_SCATTER * rng.standard_normal(n), rng.standard_normal(n))

    def draw_sky(self, scatter: tuple[float, float], rng: np.random.Generator) -> FloatArray:
        """Draw by how much the sky of a band is fainter than in the median, (n,), mag."""
        return np.asarray(scatter[0] * self.sky + scatter[1] * rng.standard_normal(len(self.sky)))

    def draw_noise(self, camera: Camera, pixel_scale: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the noise of one band and its photo-electrons per nanomaggy, as `Camera.noise`."""
        n = len(self.column)
        thinner = 10.0 ** (0.4 * camera.airmass_extinction * self.airmass)
        count = camera.count * thinner * np.exp(camera.count_scatter * rng.standard_normal(n))
        column = (self.column * len(camera.gain)).astype(np.int64)
        return camera.noise(camera.sky + self.draw_sky(camera.sky_scatter, rng), count, column, pixel_scale)
