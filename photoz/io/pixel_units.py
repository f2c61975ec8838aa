"""What pixels are worth: units and AB zero points that files give, checked against each other."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray
from photoz.images import ZERO_POINT
from photoz.io.units import nanomaggies_per

# Units that say nothing without a zero point.
COUNTS = re.compile(r"(adu|dn|counts?|cts?|e-?|electrons?|photons?)( */ *s(ec)?| s-1)?", re.IGNORECASE)

MAX_ZERO_POINT = 60.0  # magnitudes; -99, 99 and -999 stand for unknown ones

SAME_FLUX = 0.01  # largest relative difference of two statements, as they are rounded


@dataclass(frozen=True)
class PixelUnit:
    """What a pixel of the value 1 is worth; a file may say neither."""

    unit: str = ""
    zero_point: float | None = None  # AB magnitude

    @property
    def nanomaggies(self) -> float | None:
        """Nanomaggies of such a pixel; None if they are not known."""
        if self.zero_point is not None:
            return float(10.0 ** (0.4 * (ZERO_POINT - self.zero_point)))
        return nanomaggies_per(self.unit)

    def __str__(self) -> str:
        if self.zero_point is not None:
            return f"the zero point {self.zero_point:g}"
        return f"the unit {self.unit}" if self.unit else "no unit"


def read_pixel_unit(unit: str, zero_points: Mapping[str, float], where: str) -> PixelUnit:
    """Return what a unit and AB zero points, by keyword, say together; `where` names the image in errors.

    Raises `InvalidDataset` if two of them disagree, or a zero point comes with a unit that is neither flux nor counts.
    """
    if bad := [name for name, value in zero_points.items() if not abs(value) <= MAX_ZERO_POINT]:
        raise InvalidDataset(f"{where} has {bad[0]} = {zero_points[bad[0]]:g}: expected the AB magnitude of a pixel")
    worth = {f"{name} {value:g}": PixelUnit(zero_point=value).nanomaggies for name, value in zero_points.items()}
    if (of_unit := nanomaggies_per(unit)) is not None:
        worth = {f"the unit {unit}": of_unit, **worth}
    elif zero_points and unit and not COUNTS.fullmatch(unit):
        raise InvalidDataset(
            f"{where} has the unit {unit} and {next(iter(worth))}: expected a zero point beside counts or a flux only"
        )
    (first, value), *others = worth.items() or [("", None)]
    for name, other in others:
        if not same_flux(value, other):
            raise InvalidDataset(
                f"{where} contradicts itself: {first} makes a pixel of the value 1 {value:.4g} nanomaggies, {name} "
                f"{other:.4g}; correct one of them"
            )
    return PixelUnit(unit) if of_unit is not None or not zero_points else PixelUnit("", [*zero_points.values()][0])


def same_flux(one: float | None, other: float | None) -> bool:
    """Return whether two numbers of nanomaggies are the same, but for rounding."""
    return one is not None and other is not None and math.isclose(one, other, rel_tol=SAME_FLUX)


def common_unit(units: Sequence[PixelUnit], names: Sequence[str], path: object) -> tuple[PixelUnit, FloatArray | None]:
    """Return the unit of several images, (m,), named in errors, or the nanomaggies of each, (m,), if they differ.

    Raises `InvalidDataset` if they differ and one is not known.
    """
    if len(set(units)) <= 1:
        return (units[0] if units else PixelUnit()), None
    for unit, name in zip(units, names, strict=True):
        if unit.nanomaggies is None:
            other = next(f"{names[i]} has {units[i]}" for i in range(len(units)) if units[i] != unit)
            raise InvalidDataset(
                f"{name} in {path} has {unit}, but {other}: expected a flux unit or a zero point for each image"
            )
    return PixelUnit(), np.array([unit.nanomaggies for unit in units])
