"""Scores, plots and reports, made in a child process.

Drawing holds the interpreter for seconds and matplotlib takes 100 MB: neither shall ever happen to the process that
predicts. A child (`service.draw`) is started for each request, one at a time.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from photoz.estimates import Estimates
from photoz.grid import RedshiftGrid
from photoz.inference.batch import Batch
from photoz.io import npz
from photoz.protocol import contract
from service.batch import Labelled
from service.errors import Full, TooSlow
from service.settings import ONE_THREAD, ROOT

# Evaluations that may be at work or wait for it: the last of them waits for minutes at worst.
MOST_WAITING = 8


class Reporter:
    """Makes one thing at a time.

    Parameters
    ----------
    grid : RedshiftGrid
        Of the PDFs.
    label : str
        Name and version of the model.
    timeout : float
        Seconds for one thing.
    """

    def __init__(self, grid: RedshiftGrid, label: str, timeout: float) -> None:
        self._grid = {"z_max": grid.z_max, "n_bins": grid.n_bins}
        self._label = label
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def evaluation(
        self, labelled: Labelled, table: Estimates, options: contract.EvaluateOptions, media_type: str
    ) -> Response:
        """Write an evaluation.

        Parameters
        ----------
        labelled : Labelled
            n galaxies.
        table : Estimates
            Theirs, with the PDFs.
        options : EvaluateOptions
            Which plot, and of what.
        media_type : str
            JSON for figures of merit, PNG or SVG for a plot, HTML for a report.

        Returns
        -------
        Response
            Of that media type.

        Raises
        ------
        TooSlow
            If it took too long.
        """
        arrays: dict[str, npt.ArrayLike] = {"pdfs": np.asarray(table.pdf), "z_spec": labelled.z_spec}
        named = {**arrays, "object_id": labelled.object_id}
        match media_type:
            case contract.JSON:
                content = self._message(labelled, await self._make("scores", arrays))
            case contract.HTML:
                shown = named | {"flags": table.flags} | _magnitudes(labelled)
                content = await self._make("report", shown, **self._words(labelled))
            case _:
                format = "svg" if media_type == contract.SVG else "png"
                details = options.model_dump() | {"plot": options.plot or "scatter", "format": format}
                content = await self._make("plot", named, **details)
        return Response(content, media_type=media_type)

    def _message(self, labelled: Labelled, scores: bytes) -> bytes:
        message = contract.EvaluateResponse(
            model=self._label,
            n_galaxies=len(labelled.z_spec),
            scores=json.loads(scores),
            dropped=list(labelled.dropped),
        )
        return message.model_dump_json().encode()

    def _words(self, labelled: Labelled) -> dict[str, str]:
        origin = f"predicted by {self._label}" if isinstance(labelled.source, Batch) else "with PDFs as they were sent"
        description = f"{len(labelled.z_spec):,} galaxies, {origin}."
        if labelled.dropped:
            description += f" {len(labelled.dropped):,} others were left out: their true redshift is not on the grid."
        return {"title": "Evaluation of photometric redshifts", "description": description}

    async def _make(self, task: str, arrays: Mapping[str, npt.ArrayLike], **details: Any) -> bytes:
        order = json.dumps({"task": task, "grid": self._grid, **details})
        content = npz.npz_bytes({**arrays, "order": order})
        if self._waiting >= MOST_WAITING:
            raise Full(f"{self._waiting} evaluations wait already; try again when they are done")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.wait_for(_run_child(content), self._timeout)
        except TimeoutError as error:
            raise TooSlow(f"gave up after {self._timeout:g} s: try fewer galaxies") from error
        finally:
            self._waiting -= 1


def _magnitudes(labelled: Labelled) -> dict[str, npt.ArrayLike]:
    return {} if labelled.magnitudes is None else {"magnitudes": labelled.magnitudes}


async def _run_child(content: bytes) -> bytes:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.draw"),
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        result, complaint = await child.communicate(content)
    finally:
        if child.returncode is None:  # too slow, or the caller has gone
            child.kill()
            await child.wait()
    if child.returncode:
        raise RuntimeError(f"service.draw ended with {child.returncode}: {complaint.decode(errors='replace')[-2000:]}")
    return result
