"""Two services asked for the same cutouts: what `photoz compare` does."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from typing import Any

import click
import numpy as np
from click.exceptions import Exit
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from photoz.comparison import Basis, Comparison, Verdict, compare, judge
from photoz.errors import InvalidInput, PhotozError
from photoz.grid import RedshiftGrid
from photoz.io.cutouts import Cutouts
from photoz.model.card import Card
from photoz_client._client import PhotozClient
from photoz_client._errors import PhotozClientError, UnexpectedResponse
from photoz_client._options import Job
from photoz_client._output import image_text
from photoz_client._prediction import Prediction
from photoz_client._requests import shown_url

# The statuses of `cmp` and `diff`, and the shell's of Ctrl-C.
DIFFERS, NOT_COMPARED, INTERRUPTED = 1, 2, 130


class NotCompared(click.ClickException):
    """The comparison cannot be made; that is not the same as one that went badly."""

    exit_code = NOT_COMPARED

    def __init__(self, error: Exception) -> None:
        super().__init__(f"could not compare: {' '.join(str(error).split())}")


class Comparing(click.Command):
    """A command whose status 1 is a result, so that no failure may have it."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the command line."""
        with _failures_told():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """Run."""
        with _failures_told():
            return super().invoke(context)


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (PhotozError, OSError) as error:
        raise NotCompared(error) from error
    except (KeyboardInterrupt, click.Abort):
        raise Exit(INTERRUPTED) from None
    except (click.ClickException, Exit):
        raise
    except Exception:  # a fault of ours: Python would end with 1
        traceback.print_exc()
        raise Exit(NOT_COMPARED) from None


@dataclass(frozen=True)
class Side:
    """One of the two services.

    Parameters
    ----------
    url : str
        Where it is, for people to read.
    model : str
        Name and version of its model.
    digest : str
        Of the bundle of the model, from its card.
    grid : RedshiftGrid
        Of its PDFs.
    """

    url: str
    model: str
    digest: str
    grid: RedshiftGrid


@dataclass(frozen=True)
class Report:
    """What came of it; `photoz compare --json` prints it.

    Parameters
    ----------
    verdict : Verdict
        Whether B may take the place of A.
    tolerance : float
        What the verdict allowed for.
    a, b : Side
        The two services.
    cutouts : str
        The file, and which split of it.
    comparison : Comparison
        How their answers differ.
    """

    verdict: Verdict
    tolerance: float
    a: Side
    b: Side
    cutouts: str
    comparison: Comparison

    def as_json(self) -> str:
        """Write it for programs."""
        return str(TypeAdapter(Report).dump_json(self, indent=2).decode())


def report(
    job: Job, urls: Sequence[str], clients: Sequence[PhotozClient], tolerance: float, by: Basis | None
) -> Report:
    """Ask both services and compare their answers.

    Parameters
    ----------
    job : Job
        What to send.
    urls, clients : sequence of str, of PhotozClient
        Of A, which runs, and of B, which is to replace it.
    tolerance, by
        As in `photoz.comparison.judge`.

    Returns
    -------
    Report
        What came of it.

    Raises
    ------
    PhotozError, OSError
        If the answers cannot be had, or not be compared.
    """
    sides = [_Asked(name, shown_url(url), client) for name, url, client in zip("AB", urls, clients, strict=True)]
    with job.opened() as galaxies:
        z_spec = galaxies.column("z_spec") if by == "scores" else galaxies.columns.get("z_spec")
        a, b = (side.card() for side in sides)
        if a.image != b.image:
            raise InvalidInput(f"they take different cutouts; A: {image_text(a.image)}; B: {image_text(b.image)}")
        if by == "agreement" and z_spec is not None and not np.any(a.grid.contains(z_spec) & b.grid.contains(z_spec)):
            z_spec = None  # nobody asked for scores
        options = job.predict_options(galaxies, pdf=True)
        of_a, of_b = (side.predict(card, galaxies, options) for side, card in zip(sides, (a, b), strict=True))
    comparison = compare(of_a, of_b, a.grid, b.grid, z_spec)
    of_split = "" if job.split is None else f", split {job.split}"
    return Report(
        verdict=judge(comparison, tolerance, by),
        tolerance=tolerance,
        a=_side(sides[0], a),
        b=_side(sides[1], b),
        cutouts=f"{job.cutouts}{of_split}",
        comparison=comparison,
    )


@plain_dataclass(frozen=True)
class _Asked:
    """A service that is asked; what goes wrong there is told with its name."""

    name: str
    url: str
    client: PhotozClient

    def card(self) -> Card:
        with self._named():
            return self.client.model()

    def predict(self, card: Card, galaxies: Cutouts, options: Mapping[str, Any]) -> Prediction:
        """Predict with the model of the card, and no other."""
        with self._named():
            prediction = self.client.predict(galaxies.images, **options)
            if prediction.model != (expected := _model(card)):
                raise UnexpectedResponse(f"it changed its model meanwhile, from {expected} to {prediction.model}")
        return prediction

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except PhotozClientError as error:
            where = "" if self.url in str(error) else f" at {self.url}"
            raise PhotozClientError(f"{self.name}{where}: {error}") from error


def _side(asked: _Asked, card: Card) -> Side:
    return Side(asked.url, _model(card), card.digest, card.grid)


def _model(card: Card) -> str:
    return f"{card.name} {card.version}"
