"""Metrics, plots and reports of an evaluation, made in a child process.

Drawing holds the interpreter for seconds and matplotlib takes 100 MB: the process that predicts has to stay free of
both. A child (`service.evaluation_worker`) is started for each request, one at a time.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from photoz.estimates import Estimates
from photoz.grid import RedshiftGrid
from photoz.inference.predictor import Batch
from photoz.protocol import contract
from service.children import run_child
from service.middleware.concurrency import ConcurrencyLimit
from service.middleware.errors import EvaluationTimeout
from service.validation import LabelledGalaxies

# Evaluations that run or wait, in all and of one client: the last of them waits for minutes at worst.
MAX_QUEUED, MAX_OF_CLIENT = 12, 8


class Evaluator:
    """Runs one evaluation at a time, each in at most `timeout` seconds."""

    def __init__(self, grid: RedshiftGrid, model_label: str, timeout: float) -> None:
        self._grid = {"z_max": grid.z_max, "n_bins": grid.n_bins}
        self._model_label = model_label
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._queued = ConcurrencyLimit("evaluations run or wait", MAX_QUEUED, MAX_OF_CLIENT)

    async def evaluate(
        self,
        galaxies: LabelledGalaxies,
        estimates: Estimates,
        options: contract.EvaluateOptions,
        media_type: str,
        client: str,
    ) -> Response:
        """Evaluate estimates with PDFs: JSON for metrics, PNG or SVG for a plot, HTML for a report.

        Raises `EvaluationTimeout` if it took too long, `TooManyRequests` if too many wait, of this client or in all.
        """
        self._queued.check(client)
        with self._queued.count(client):
            return await self._evaluate(galaxies, estimates, options, media_type)

    async def _evaluate(
        self, galaxies: LabelledGalaxies, estimates: Estimates, options: contract.EvaluateOptions, media_type: str
    ) -> Response:
        arrays: dict[str, npt.ArrayLike] = {"pdfs": np.asarray(estimates.pdf), "z_spec": galaxies.z_spec}
        named = {**arrays, "object_id": galaxies.object_id}
        match media_type:
            case contract.JSON:
                content = self._message(galaxies, await self._run("scores", arrays))
            case contract.HTML:
                shown = named | {"flags": estimates.flags} | _magnitudes(galaxies)
                content = await self._run("report", shown, **self._texts(galaxies))
            case _:
                format = "svg" if media_type == contract.SVG else "png"
                details = options.model_dump() | {"plot": options.plot or "scatter", "format": format}
                content = await self._run("plot", named, **details)
        return Response(content, media_type=media_type)

    def _message(self, galaxies: LabelledGalaxies, scores: bytes) -> bytes:
        message = contract.EvaluateResponse(
            model=self._model_label,
            n_galaxies=len(galaxies.z_spec),
            scores=json.loads(scores),
            dropped=list(galaxies.dropped),
        )
        return message.model_dump_json().encode()

    def _texts(self, galaxies: LabelledGalaxies) -> dict[str, str]:
        predicted = isinstance(galaxies.source, Batch)
        origin = f"predicted by {self._model_label}" if predicted else "with PDFs as they were sent"
        description = f"{len(galaxies.z_spec):,} galaxies, {origin}."
        if galaxies.dropped:
            description += f" {len(galaxies.dropped):,} others were left out: their true redshift is not on the grid."
        return {"title": "Evaluation of photometric redshifts", "description": description}

    async def _run(self, task: str, arrays: Mapping[str, npt.ArrayLike], **details: Any) -> bytes:
        job = {"task": task, "grid": self._grid, **details}
        try:
            async with self._lock:
                return await asyncio.wait_for(run_child("service.evaluation_worker", job, arrays), self._timeout)
        except TimeoutError as error:
            raise EvaluationTimeout(f"this took longer than {self._timeout:g} s: try fewer galaxies") from error


def _magnitudes(galaxies: LabelledGalaxies) -> dict[str, npt.ArrayLike]:
    return {} if galaxies.magnitudes is None else {"magnitudes": galaxies.magnitudes}
