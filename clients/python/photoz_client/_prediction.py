"""What a prediction is on this side: the columns of the contract as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from photoz.estimates import Estimates, Flag
from photoz.grid import BoolArray
from photoz_client._errors import MissingExtra

if TYPE_CHECKING:
    from astropy.table import Table

DESCRIPTIONS = {
    "object_id": "name of the galaxy",
    "z_mean": "mean of the PDF",
    "z_median": "median of the PDF",
    "z_mode": "mode of the PDF",
    "z_std": "standard deviation of the PDF",
    "z_lo68": "lower end of the shortest interval that holds 68 % of the probability",
    "z_hi68": "upper end of the shortest interval that holds 68 % of the probability",
    "z_lo95": "lower end of the shortest interval that holds 95 % of the probability",
    "z_hi95": "upper end of the shortest interval that holds 95 % of the probability",
    "odds": "probability within 0.03 (1 + z_mode) of the mode",
    "ood_score": "how unlike the training images the cutout is",
    "flags": "bit mask: " + ", ".join(f"{flag.value} {flag.name}" for flag in Flag),
    "pdf": "probability per redshift bin",
}


@dataclass(frozen=True)
class Prediction(Estimates):
    """Estimates for n galaxies, one array a column, and the model that made them.

    Parameters
    ----------
    model : str
        Name and version of the model, as the service gives it. All other fields are those of
        `photoz.estimates.Estimates`.
    """

    model: str = ""

    def columns(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """Yield the name and the values of each column that is there, in the order of the contract."""
        return ((name, values) for name, values in super().columns() if name != "model")

    def has(self, flag: Flag) -> BoolArray:
        """Tell which estimates carry a flag, or any of several: `prediction.has(Flag.LOW_SNR | Flag.BROAD_PDF)`.

        Parameters
        ----------
        flag : Flag
            One flag or several, joined with `|`.

        Returns
        -------
        (n,) bool
            True where at least one of them is raised.
        """
        return np.asarray((self.flags & int(flag)) != 0)

    def to_table(self) -> "Table":
        """Return the columns as an astropy table, each with its description; redshifts carry no unit.

        Returns
        -------
        astropy.table.Table
            n rows; `table.meta["model"]` names the model.

        Raises
        ------
        MissingExtra
            If astropy is not installed.
        """
        try:
            from astropy.table import Table
        except ImportError as error:
            raise MissingExtra("to_table needs astropy: install it with pip install 'photoz[astropy]'") from error
        columns = dict(self.columns())
        descriptions = {name: DESCRIPTIONS[name] for name in columns}
        return Table(columns, descriptions=descriptions, meta={"model": self.model})


def join(predictions: Sequence[Prediction]) -> Prediction:
    """Put the rows of several predictions behind each other.

    Parameters
    ----------
    predictions : sequence of Prediction
        At least one, with the same columns.

    Returns
    -------
    Prediction
        All rows, in order; `model` names all that answered, where one took the place of another meanwhile.
    """
    first = predictions[0]
    if len(predictions) == 1:
        return first
    names = [name for name, _ in first.columns()]
    columns = {name: np.concatenate([getattr(part, name) for part in predictions]) for name in names}
    return Prediction(**columns, model=", ".join(dict.fromkeys(part.model for part in predictions)))
