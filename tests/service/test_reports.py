import asyncio

import numpy as np
import psutil
import pytest

from photoz.estimates import from_pdfs
from photoz.grid import RedshiftGrid
from photoz.protocol import contract
from service.batch import Labelled
from service.errors import TooSlow
from service.reports import Reporter

GRID = RedshiftGrid(0.4, 20)


def evaluate(reporter, n_bins=GRID.n_bins):
    pdfs, z_spec = np.full((3, n_bins), 1.0 / n_bins), np.array([0.1, 0.2, 0.3])
    labelled = Labelled(z_spec, np.array(["a", "b", "c"]), (), pdfs, None)
    table = from_pdfs(pdfs, RedshiftGrid(0.4, n_bins), include_pdf=True)
    return asyncio.run(reporter.evaluation(labelled, table, contract.EvaluateOptions(), contract.JSON))


def n_drawing():
    children = psutil.Process().children()
    return sum("service.draw" in child.cmdline() for child in children if child.status() != psutil.STATUS_ZOMBIE)


def test_a_child_that_takes_too_long_is_ended():
    with pytest.raises(TooSlow, match=r"gave up after 0.01 s"):
        evaluate(Reporter(GRID, "model 1", timeout=0.01))
    assert n_drawing() == 0


def test_a_child_that_fails_says_why():
    with pytest.raises(RuntimeError, match="(?s)service.draw ended with 1: .*mismatch"):
        evaluate(Reporter(GRID, "model 1", timeout=60.0), n_bins=7)


def test_evaluations_take_turns():
    reporter = Reporter(GRID, "model 1", timeout=60.0)
    pdfs, z_spec = np.full((3, 20), 0.05), np.array([0.1, 0.2, 0.3])
    labelled = Labelled(z_spec, np.array(["a", "b", "c"]), (), pdfs, None)
    table = from_pdfs(pdfs, GRID, include_pdf=True)

    async def together():
        answers = [
            asyncio.create_task(reporter.evaluation(labelled, table, contract.EvaluateOptions(), contract.JSON))
            for _ in range(2)
        ]
        most = 0
        while not all(answer.done() for answer in answers):
            most = max(most, n_drawing())
            await asyncio.sleep(0.01)
        return most, [(await answer).body for answer in answers]

    most, bodies = asyncio.run(together())
    assert most == 1
    assert bodies[0] == bodies[1]
