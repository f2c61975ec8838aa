import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from photoz.errors import InvalidRedshifts
from photoz.grid import SDSS_GRID, RedshiftGrid

GRIDS = [SDSS_GRID, RedshiftGrid(0.6, 90), RedshiftGrid(1.5, 300), RedshiftGrid(0.7, 7)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_bins_hold_their_lower_edge_and_centre_but_not_their_upper_edge(grid):
    bins = np.arange(grid.n_bins)
    np.testing.assert_array_equal(grid.bin_index(grid.edges[:-1]), bins)
    np.testing.assert_array_equal(grid.bin_index(grid.centres), bins)
    np.testing.assert_array_equal(grid.bin_index(np.nextafter(grid.edges[1:], 0.0)), bins)
    np.testing.assert_allclose(grid.centres - grid.edges[:-1], grid.width / 2)
    assert grid.bin_index(grid.z_max) == grid.n_bins - 1


@pytest.mark.parametrize("z", [np.nan, -1e-12, 0.4000001, np.inf, -np.inf])
def test_redshift_off_the_grid_is_refused(z):
    assert not SDSS_GRID.contains(z)
    with pytest.raises(InvalidRedshifts, match=r"1 of 2 redshifts .* expected 0 <= z <= 0.4"):
        SDSS_GRID.bin_index([0.1, z])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_index_has_the_shape_of_the_redshifts(shape):
    z = np.full(shape, 0.1)
    assert SDSS_GRID.bin_index(z).shape == shape
    assert SDSS_GRID.contains(z).shape == shape


@given(z_max=st.floats(0.01, 20.0), n_bins=st.integers(2, 2000), part=st.floats(0.0, 1.0))
def test_redshift_is_between_the_edges_of_its_bin(z_max, n_bins, part):
    grid = RedshiftGrid(z_max, n_bins)
    z = part * z_max
    index = int(grid.bin_index(z))
    assert grid.edges[index] <= z <= grid.edges[index + 1]


@pytest.mark.parametrize(
    ("z_max", "n_bins"), [(0.0, 180), (-1.0, 180), (1e-300, 180), (1e308, 180), (np.nan, 180), (np.inf, 180), (0.4, 1)]
)
def test_invalid_grid_is_refused(z_max, n_bins):
    with pytest.raises(ValidationError):
        RedshiftGrid(z_max, n_bins)


def test_grids_compare_by_value_and_are_read_only():
    assert RedshiftGrid(0.4, 180) == SDSS_GRID
    assert RedshiftGrid(0.4, 90) != SDSS_GRID
    with pytest.raises(ValueError, match="read-only"):
        SDSS_GRID.edges[0] = 1.0
