"""Child process of an evaluation: reads a job from stdin and writes the bytes of the result to stdout."""

import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from photoz import metrics, pdf
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import Score
from service.child import start_child

Names = npt.NDArray[np.str_]

PLOTS = ("scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked")


def scores(pdfs: FloatArray, z_spec: FloatArray, *, grid: RedshiftGrid) -> bytes:
    """Return the metrics with bootstrap errors as JSON."""
    summary = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid))
    return TypeAdapter(dict[str, Score]).dump_json(summary)


def draw(
    pdfs: FloatArray,
    z_spec: FloatArray,
    object_id: Names,
    *,
    grid: RedshiftGrid,
    plot: str,
    format: Literal["png", "svg"],
    num_images: int,
    seed: int,
) -> bytes:
    """Draw one of `PLOTS` as "png" or "svg"."""
    from photoz import plots

    z_phot = pdf.mean(pdfs, grid)
    match plot:
        case "pdfs":
            figure = plots.pdf_panels(pdfs, grid, z_spec, num_images=num_images, seed=seed, object_id=object_id)
        case "pit":
            figure = plots.pit_histogram(metrics.pit(pdfs, z_spec, grid))
        case "qq":
            figure = plots.pit_qq(metrics.pit(pdfs, z_spec, grid))
        case "coverage":
            figure = plots.coverage(pdfs, grid, z_spec)
        case "residuals":
            figure = plots.residuals(z_spec, metrics.residuals(z_phot, z_spec), xlabel="true redshift")
        case "stacked":
            figure = plots.stacked(pdfs, grid, z_spec)
        case _:
            summary = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid), n_resamples=2)
            figure = plots.scatter(z_spec, z_phot, scores=summary)
    return plots.render(figure, format)


def report(pdfs: FloatArray, z_spec: FloatArray, *, grid: RedshiftGrid, **details: Any) -> bytes:
    """Return the whole evaluation as one self-contained HTML page."""
    from photoz.report import render_html

    return render_html(pdfs, z_spec, grid, **details).encode()


TASKS: dict[str, Callable[..., bytes]] = {"scores": scores, "plot": draw, "report": report}


def main() -> None:
    """Run the job on stdin."""
    job, arrays = start_child()
    grid = RedshiftGrid(**job.pop("grid"))
    sys.stdout.buffer.write(TASKS[job.pop("task")](**arrays, grid=grid, **job))


if __name__ == "__main__":
    main()
