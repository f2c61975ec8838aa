"""The endpoint of evaluations: decode, predict unless the PDFs are given, and draw."""

from functools import partial
from typing import Any

import numpy as np
from starlette.responses import Response

from photoz import estimates, evaluation
from photoz.errors import MalformedInput
from photoz.images import Batch
from photoz.inference.predictor import ALL_COLUMNS, as_estimates
from photoz.io.formats import HTML, JSON, SVG
from photoz.protocol.contract import EvaluateOptions, EvaluateRequest, EvaluateResponse
from photoz.validation import Arrays, as_labelled
from service.decoding import ZIP_MAGIC, read_file, reserve_conversion, reserve_decoding
from service.files import MAGICS
from service.formats import json
from service.formats.negotiation import EVALUATIONS, FILE_TYPES, PLOTS, check_type, negotiate, query_options
from service.request import Request
from service.state import State
from service.steps import SMALL, offload, run_step, span


async def evaluate(request: Request, state: State) -> Response:
    """Compare redshifts with true ones: metrics, a plot, or a report."""
    options = query_options(request, EvaluateOptions)
    media_type = negotiate(request.accept, PLOTS if options.plot else EVALUATIONS)
    check_type(request, (JSON.media_type, *FILE_TYPES))
    arrays = await _read(request, state)
    reserve_conversion(request, arrays)
    galaxies = await offload(as_labelled, arrays, state.card, state.settings.max_rows)
    source, grid = galaxies.source, state.card.grid
    if isinstance(source, Batch):
        table = as_estimates(source, await state.predict_columns(request, source, ALL_COLUMNS))
    else:
        table = await offload(partial(estimates.from_pdfs, source, grid, include_pdf=True))
    pdfs, z_spec = np.asarray(table.pdf), galaxies.z_spec

    # In a child process: drawing holds the interpreter for seconds, and matplotlib takes 100 MB.
    run = partial(state.evaluations.run, request.client, state.settings.evaluation_timeout)
    with span("draw"):
        match media_type:
            case JSON.media_type:
                scores = await run(evaluation.scores, pdfs, z_spec, grid)
                content: Any = EvaluateResponse(
                    model=state.model_label, n_galaxies=len(z_spec), scores=scores, dropped=list(galaxies.dropped)
                ).model_dump_json()
            case HTML.media_type:
                details = evaluation.details(galaxies, state.model_label) | {"flags": table.flags}
                content = await run(evaluation.report, pdfs, z_spec, grid, details)
            case _:
                format = "svg" if media_type == SVG.media_type else "png"
                content = await run(evaluation.draw, pdfs, z_spec, galaxies.object_id, grid, options, format)
    return Response(content, media_type=media_type)


async def _read(request: Request, state: State) -> Arrays:
    if request.first_bytes(16).startswith((ZIP_MAGIC, *MAGICS)):
        return await read_file(request, state.files, state.max_bytes)
    if request.media_type in FILE_TYPES:
        raise MalformedInput("expected a file with z_spec and either images or pdfs (.npz), got other bytes")
    await reserve_decoding(request, n_json=request.received_bytes)
    return json.as_arrays(await run_step("decode", SMALL + 1, json.decode, request.body, EvaluateRequest))
