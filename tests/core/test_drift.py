"""The bins that answers are counted in, here and on the galaxies of the card."""

import numpy as np
import pytest
from pydantic import ValidationError

from photoz import drift
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.model.card import Histogram
from training.reference import fractions


@pytest.mark.parametrize("grid", [SDSS_GRID, RedshiftGrid(0.6, 90), RedshiftGrid(6.0, 300), RedshiftGrid(0.1 + 0.2, 7)])
def test_edges_increase_and_cover_the_grid(grid):
    edges = drift.edges(grid)
    assert {name: len(bounds) for name, bounds in edges.items()} == {"z_mean": 20, "z_width68": 18, "ood_score": 18}
    for bounds in edges.values():
        assert (np.diff(bounds) > 0).all()
        assert all(edge == float(f"{edge:.4g}") for edge in bounds)
    assert edges["z_mean"][-1] == pytest.approx(grid.z_max)
    assert edges["z_width68"][0] == pytest.approx(grid.z_max / 100)
    assert edges["z_width68"][-1] < 0.68 * grid.z_max  # so that flat PDFs lie beyond all edges
    assert (edges["ood_score"][0], edges["ood_score"][7], edges["ood_score"][-1]) == (0.1995, 1.0, 10.0)


def test_value_at_an_edge_counts_as_below_it():
    values = np.array([0.3, 0.1, 0.2, 9.0])
    np.testing.assert_array_equal(fractions(values, (0.05, 0.1, 0.2, 1.0)), [0.0, 0.25, 0.5, 0.75])


def test_width_is_that_of_the_68_percent_interval():
    columns = {"z_mean": 0.1, "z_lo68": 0.08, "z_hi68": 0.11, "z_lo95": 0.0, "z_hi95": 0.4, "ood_score": 0.7}
    quantities = drift.quantities({name: np.array([value]) for name, value in columns.items()})
    assert {name: value[0] for name, value in quantities.items()} == pytest.approx(
        {"z_mean": 0.1, "z_width68": 0.03, "ood_score": 0.7}
    )
    assert drift.quantities({"z_lo68": np.array([0.08])}) == {}


@pytest.mark.parametrize(
    ("edges", "fractions"), [((), ()), ((0.1, 0.2), (0.5,)), ((0.2, 0.1), (0.5, 1.0)), ((0.1, 0.1), (0.5, 1.0))]
)
def test_inconsistent_histogram_is_refused(edges, fractions):
    with pytest.raises(ValidationError, match="expected increasing edges with a fraction for each"):
        Histogram(edges=edges, fractions=fractions)
