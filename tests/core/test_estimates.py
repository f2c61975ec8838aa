import numpy as np
import pytest

from photoz import estimates, pdf
from photoz.flags import Flag, flag_inputs, flag_ood, flag_range
from photoz.grid import SDSS_GRID
from photoz.images import Batch, ImageSpec
from photoz.io import tables
from photoz.protocol import contract

SPEC = ImageSpec(size=16, bands="gr")


def flags_of(pdfs):
    return Flag(int(estimates.from_pdfs(pdfs, SDSS_GRID).flags[0]))


def test_columns_are_those_of_the_http_contract():
    fields = list(contract.PredictResponse.model_fields)
    assert fields == ["model", *estimates.COLUMNS, "pdf"]


def test_columns_agree_with_the_functions_of_pdf(gaussian_pdfs):
    pdfs = gaussian_pdfs(np.linspace(0.05, 0.35, 7), 0.015)
    table = estimates.from_pdfs(pdfs, SDSS_GRID)
    for name in ("mean", "median", "mode", "std"):
        np.testing.assert_array_equal(getattr(table, f"z_{name}"), getattr(pdf, name)(pdfs, SDSS_GRID))
    np.testing.assert_array_equal(table.odds, pdf.odds(pdfs, SDSS_GRID))
    for mass in (68, 95):
        interval = getattr(table, f"z_lo{mass}"), getattr(table, f"z_hi{mass}")
        np.testing.assert_array_equal(interval, pdf.shortest_interval(pdfs, SDSS_GRID, mass / 100))
    assert np.isnan(table.ood_score).all()
    assert len(table) == 7


def test_names_and_pdfs_are_optional_columns(gaussian_pdfs):
    pdfs = gaussian_pdfs(np.array([0.1, 0.2]), 0.02)
    plain = estimates.from_pdfs(pdfs, SDSS_GRID)
    assert dict(plain.columns()).keys() == set(estimates.COLUMNS)
    assert b'"pdf"' not in tables.json_bytes(plain, "toy 1")
    assert plain.object_id.tolist() == ["0", "1"]
    named = estimates.from_pdfs(pdfs, SDSS_GRID, object_id=np.array(["a", "b"]), include_pdf=True)
    assert [name for name, _ in named.columns()] == [*estimates.COLUMNS, "pdf"]
    assert named.object_id.tolist() == ["a", "b"]
    np.testing.assert_array_equal(named.pdf, pdfs)


def test_narrow_pdf_has_no_flag(gaussian_pdfs):
    assert flags_of(gaussian_pdfs(0.2, 0.014)) == Flag(0)


@pytest.mark.parametrize("edge", [0, -1])
def test_mass_at_either_edge_is_flagged(gaussian_pdfs, edge):
    for mass, flag in ((0.049, Flag(0)), (0.051, Flag.EDGE_MASS)):
        pdfs = (1.0 - mass) * gaussian_pdfs(0.2, 0.01)
        pdfs[0, edge] += mass
        assert flags_of(pdfs) & Flag.EDGE_MASS == flag


@pytest.mark.parametrize(("sigma", "flag"), [(0.033, Flag(0)), (0.042, Flag.BROAD_PDF)])
def test_broad_68_percent_interval_is_flagged(gaussian_pdfs, sigma, flag):
    # 2 sigma against 0.06 * 1.2
    assert flags_of(gaussian_pdfs(0.2, sigma)) == flag


@pytest.mark.parametrize(("second", "flag"), [(0.19, Flag.MULTIMODAL), (0.22, Flag.MULTIMODAL | Flag.BROAD_PDF)])
def test_two_peaks_are_flagged(gaussian_pdfs, second, flag):
    two = 0.6 * gaussian_pdfs(0.15, 0.007) + 0.4 * gaussian_pdfs(second, 0.007)
    assert flags_of(two) == flag


def test_score_above_the_threshold_is_flagged(gaussian_pdfs):
    flags = flag_ood(np.array([0.5, 1.0, 1.1, np.nan]), 1.0)
    assert flags.tolist() == [0, 0, Flag.OUT_OF_DISTRIBUTION, 0]
    assert not estimates.from_pdfs(gaussian_pdfs(np.full(4, 0.2), 0.01), SDSS_GRID).flags.any()


def bright(n, seed=3):
    images = np.random.default_rng(seed).normal(0, 1, (n, *SPEC.shape))
    images[:, 6:10, 6:10] += 20.0
    return images


def test_each_input_flag_is_raised_alone():
    images = bright(5)
    images[1, 0, 0, 0] = np.nan
    images[2, :, :, 1] = 0.0
    images[3] -= 20.0 * (images[3] > 10)
    flags = flag_inputs(Batch.of(images, SPEC, [0.1, 0.1, 0.1, 0.1, np.nan], 0.03))
    assert flags.tolist() == [0, Flag.MASKED_PIXELS, Flag.BAND_MISSING, Flag.LOW_SNR, Flag.EBV_ASSUMED]


def test_one_bright_band_is_not_low_snr():
    images = bright(1)
    images[..., 0] = np.random.default_rng(0).normal(0, 1, images.shape[:3])
    flags = flag_inputs(Batch.of(images, SPEC, 0.1, 0.0))
    assert flags.tolist() == [0]


@pytest.mark.parametrize(("beyond", "flag"), [(0.024, 0), (0.026, Flag.BEYOND_TRAINING)])
@pytest.mark.parametrize("z", [0.01, 0.35])
def test_probability_beyond_the_training_redshifts_is_flagged(z, beyond, flag):
    pdfs = np.zeros((1, SDSS_GRID.n_bins))
    pdfs[0, SDSS_GRID.bin_index([0.2, z])] = 1 - beyond, beyond
    assert flag_range(pdfs, SDSS_GRID, (0.05, 0.3)).tolist() == [flag]
    assert flag_range(pdfs, SDSS_GRID, (0.0, np.inf)).tolist() == [0]


def test_flag_bits_are_those_documented():
    names = "EBV_ASSUMED MASKED_PIXELS BAND_MISSING LOW_SNR EDGE_MASS BROAD_PDF MULTIMODAL"
    names += " OUT_OF_DISTRIBUTION BEYOND_TRAINING"
    assert {flag.name: flag.value for flag in Flag} == {name: 2**bit for bit, name in enumerate(names.split())}
