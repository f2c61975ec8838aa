"""Columns and flags of the estimates, their drift, and the OOD score."""

from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from photoz import drift, estimates, ood, pdf
from photoz.errors import InvalidBundle
from photoz.flags import FLAG_MEANINGS, Flag, flag_inputs, flag_names, flag_ood, flag_pdfs, flag_range
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import Batch, Border, ImageSpec, measure_border
from photoz.io.tables import PASSED_COLUMNS
from photoz.model.card import Histogram
from photoz.ood import FARTHEST, FEATURES, FeatureGroup
from photoz.protocol import contract
from tests.pdfs import gaussian_pdfs
from training.reference import fractions

SPEC = ImageSpec(size=16, bands="gr")

# Tenths of decades, of four digits.
DECADE = (1.0, 1.259, 1.585, 1.995, 2.512, 3.162, 3.981, 5.012, 6.31, 7.943)
FOUR_TENTHS = (4.0, 5.036, 6.34, 7.981, 10.05, 12.65, 15.92, 20.05, 25.24, 31.77)


def test_columns_agree_with_the_functions_of_pdf(monkeypatch):
    pdfs = gaussian_pdfs(np.linspace(0.05, 0.35, 7), np.linspace(0.01, 0.06, 7))
    expected = {f"z_{name}": getattr(pdf, name)(pdfs, SDSS_GRID) for name in ("mean", "mode", "std")}
    expected["z_median"] = pdf.quantile(pdfs, SDSS_GRID, 0.5)
    for mass in (68, 95):
        expected[f"z_lo{mass}"], expected[f"z_hi{mass}"] = pdf.shortest_interval(pdfs, SDSS_GRID, mass / 100)
    expected["odds"], expected["ood_score"] = pdf.odds(pdfs, SDSS_GRID), np.full(7, np.nan)
    expected["flags"] = flag_pdfs(pdfs, SDSS_GRID, expected["z_hi68"] - expected["z_lo68"])
    assert len(set(expected["flags"])) > 1
    for rows in (4096, 7, 3):
        monkeypatch.setattr(pdf, "ROWS_AT_ONCE", rows)
        table = estimates.from_pdfs(pdfs, SDSS_GRID)
        assert len(table) == 7
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(table, name), values, rtol=1e-12)
    for wanted in (("z_hi68",), ("z_lo95",), ("z_hi95",), ("z_lo68",), ("flags",), ("odds", "z_mode")):
        columns = estimates.summaries(pdfs, SDSS_GRID, wanted)
        assert tuple(columns) == wanted
        for name, values in columns.items():
            np.testing.assert_array_equal(values, getattr(table, name))


def test_flags_of_pdfs_begin_at_their_limits():
    for edge in (0, -1):
        for mass, flag in ((0.0499, Flag(0)), (0.0501, Flag.EDGE_MASS)):
            pdfs = (1.0 - mass) * gaussian_pdfs(0.2, 0.01)
            pdfs[0, edge] += mass
            assert estimates.from_pdfs(pdfs, SDSS_GRID).flags[0] & Flag.EDGE_MASS == flag
    for width, flag in ((0.0719, Flag(0)), (0.0721, Flag.BROAD_PDF)):  # against 0.06 * 1.2
        flags = flag_pdfs(gaussian_pdfs(0.2, 0.01), SDSS_GRID, np.array([width]))
        assert (flags.tolist(), flags.dtype) == ([flag], np.int32)
    for second, flag in ((0.199, Flag(0)), (0.201, Flag.MULTIMODAL)):
        pdfs = np.array([[0.0, 1.0, 0.0, second, 0.0]]) / (1 + second)
        assert flag_pdfs(pdfs, RedshiftGrid(0.5, 5), np.zeros(1)).tolist() == [flag]
    flags = flag_ood(np.array([0.5, 1.0, 1.1, np.nan]), 1.0)
    assert (flags.tolist(), flags.dtype) == ([0, 0, Flag.OUT_OF_DISTRIBUTION, 0], np.int32)
    for z, (beyond, flag) in (
        (z, case) for z in (0.01, 0.35) for case in ((0.0249, 0), (0.0251, Flag.BEYOND_TRAINING))
    ):
        pdfs = np.zeros((2, SDSS_GRID.n_bins))
        pdfs[:, SDSS_GRID.bin_index([0.2, z])] = 1 - beyond, beyond
        flags = flag_range(pdfs, SDSS_GRID, (0.05, 0.3))
        assert (flags.tolist(), flags.dtype) == ([flag, flag], np.int32)
        assert flag_range(pdfs, SDSS_GRID, (0.0, np.inf)).tolist() == [0, 0]


def test_each_input_flag_is_raised_alone_and_low_signal_is_below_five_sigma():
    images = np.random.default_rng(3).normal(0, 1, (6, *SPEC.shape))
    images[:, 6:10, 6:10] += 20.0
    images[1, 0, 0, 0] = np.nan
    images[2, :, :, 1] = 0.0
    images[3] -= 20.0 * (images[3] > 10)
    images[5, ..., 0] = np.random.default_rng(0).normal(0, 1, (16, 16))  # one bright band is enough
    flags = flag_inputs(Batch.of(images, SPEC, [0.1, 0.1, 0.1, 0.1, np.nan, 0.1], 0.03))
    assert flags.tolist() == [0, Flag.MASKED_PIXELS, Flag.BAND_MISSING, Flag.LOW_SNR, Flag.EBV_ASSUMED, 0]
    assert flags.dtype == np.int32
    images = np.zeros((1, 16, 16, 1))
    images[0, 0], images[0, -1] = np.tile([1.0, -1.0], 8)[:, None], np.tile([1.0, -1.0], 8)[:, None]
    images[0, :, 0], images[0, :, -1] = 1.0, -1.0  # a median of 0, deviations of 1
    for light, flag in ((4.99, Flag.LOW_SNR), (5.01, 0)):
        images[0, 8, 8] = 4 * light  # in a box of 16 pixels
        assert flag_inputs(Batch.of(images, ImageSpec(size=16, bands="r"), 0.1)).tolist() == [flag]


def test_flag_bits_and_columns_are_those_documented():
    names = "EBV_ASSUMED MASKED_PIXELS BAND_MISSING LOW_SNR EDGE_MASS BROAD_PDF MULTIMODAL"
    names += " OUT_OF_DISTRIBUTION BEYOND_TRAINING RESAMPLED"
    assert {flag.name: flag.value for flag in Flag} == {name: 2**bit for bit, name in enumerate(names.split())}
    assert list(FLAG_MEANINGS) == list(Flag)
    assert FLAG_MEANINGS[Flag.EDGE_MASS].startswith("more than 5 % of the probability lies in the first and last bin")
    assert FLAG_MEANINGS[Flag.BEYOND_TRAINING].startswith("more than 2.5 % of the probability lies where no training")
    assert (flag_names(0), flag_names(8 | 16), flag_names(4096 | 1)) == ("-", "LOW_SNR|EDGE_MASS", "EBV_ASSUMED")
    name, *columns = estimates.COLUMNS
    fields = ["model", "provenance", "z_edges", name, *PASSED_COLUMNS, *columns, "pdf"]
    assert list(contract.PredictResponse.model_fields) == fields
    pdfs = gaussian_pdfs(np.array([0.1, 0.2]), 0.02)
    plain = estimates.from_pdfs(pdfs, SDSS_GRID)
    assert [name for name, _ in plain.columns()] == list(estimates.COLUMNS)
    assert plain.object_id.tolist() == [0, 1]
    named = estimates.from_pdfs(pdfs, SDSS_GRID, object_id=np.array(["a", "b"]), include_pdf=True)
    assert [name for name, _ in named.columns()] == [*estimates.COLUMNS, "pdf"]
    assert named.object_id.tolist() == ["a", "b"]
    np.testing.assert_array_equal(named.pdf, pdfs)


def test_drift_is_counted_below_round_edges_of_means_widths_and_scores():
    edges = drift.edges(SDSS_GRID)
    assert list(edges) == ["z_mean", "z_width68", "ood_score"]
    assert edges["z_mean"] == tuple(round(0.02 * i, 2) for i in range(1, 21))
    widths = [z / 1000 for z in FOUR_TENTHS] + [z / 100 for z in FOUR_TENTHS[:8]]
    assert edges["z_width68"] == pytest.approx(widths, rel=1e-9)
    scores = [score / 10 for score in DECADE[3:]] + [*DECADE, 10.0]
    assert edges["ood_score"] == pytest.approx(scores, rel=1e-9)
    assert drift.edges(RedshiftGrid(0.1 + 0.2, 7))["z_mean"][-1] == 0.3
    values = np.array([0.3, 0.1, 0.2, 9.0])  # a value at an edge counts as below it
    np.testing.assert_array_equal(fractions(values, (0.05, 0.1, 0.2, 1.0)), [0.0, 0.25, 0.5, 0.75])
    columns = {"z_mean": 0.1, "z_lo68": 0.08, "z_hi68": 0.11, "z_lo95": 0.0, "z_hi95": 0.4, "ood_score": 0.7}
    quantities = drift.quantities({name: np.array([value]) for name, value in columns.items()})
    expected = {"z_mean": 0.1, "ood_score": 0.7, "z_width68": 0.03}
    assert {name: value[0] for name, value in quantities.items()} == pytest.approx(expected)
    assert [drift.quantities({name: np.array([0.08])}) for name in ("z_lo68", "z_hi68")] == [{}, {}]
    for edges, shares in (((), ()), ((0.1, 0.2), (0.5,)), ((0.2, 0.1), (0.5, 1.0)), ((0.1, 0.1), (0.5, 1.0))):
        with pytest.raises(ValidationError, match="expected increasing edges with a fraction for each"):
            Histogram(edges=edges, fractions=shares)


SIZE = 64


def stamps(radius, n=20, noise=0.02, bands=3):
    rng = np.random.default_rng(1)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    profile = np.exp(-np.hypot(x, y) / radius)[..., np.newaxis]
    return (profile + noise * rng.standard_normal((n, SIZE, SIZE, bands))).astype(np.float32)


def features(images, name, noise=1.0):
    """Return a group of features of cutouts with a given noise in each band."""
    noise = np.broadcast_to(np.asarray(noise, float), (len(images), images.shape[-1]))
    return ood.extract_features(images, None, Border(noise, 0 * noise))[name]


def pixels(*values, size=16, bands=3):
    """One dark cutout with some pixels: (row, column, band, value) each."""
    image = np.zeros((1, size, size, bands), np.float32)
    for row, column, band, value in values:
        image[0, row, column, band] = value
    return image


def block(row, columns):
    """A cutout of one bright pixel beside a brighter block of 2x3 pixels."""
    return pixels((9 if row > 8 else 8, 8, 0, 10.0), *((line, x, 0, 8.0) for line in (row, row + 1) for x in columns))


def unit_group(p, scale=1.0):
    return FeatureGroup(np.zeros(p), np.ones(p), np.zeros(p), np.eye(p), scale)


def test_groups_of_features_and_those_of_the_border(tmp_path):
    images = stamps(3.0) * np.array([1.0, 2.0, 0.0], np.float32) + np.float32(0.5)
    border, groups = measure_border(images), ood.extract_features(images, None)
    np.testing.assert_allclose(groups["noise"], np.log(np.maximum(border.noise, 1e-12)))
    np.testing.assert_allclose(np.exp(groups["noise"]).mean(axis=0), [0.02, 0.04, 1e-12], rtol=0.1)
    np.testing.assert_allclose(groups["background"][:, :2], border.median[:, :2] / border.noise[:, :2], rtol=1e-6)
    assert not groups["background"][:, 2].any()  # without noise
    given = Border(np.array([[2.0, 4.0]]), np.array([[1.0, -1.0]]))
    assert ood.extract_features(pixels(bands=2), None, given)["background"].tolist() == [[0.5, -0.25]]
    expected = dict.fromkeys(("noise", "background", "sharpness", "single_band", "dark_line", "concentration"), (1, 1))
    seen = ood.extract_features(pixels(bands=1), np.ones((1, 7), np.float32))
    assert {name: values.shape for name, values in seen.items()} == {FEATURES: (1, 7)} | expected
    assert list(ood.extract_features(pixels(bands=1), None)) == list(expected)
    rng = np.random.default_rng(0)
    sizes = {FEATURES: 7, "noise": 1}
    groups = {name: FeatureGroup(*rng.uniform(1, 2, (3, n)), np.eye(n), 1.5) for name, n in sizes.items()}
    ood.save(groups, tmp_path / "ood.npz")
    loaded = ood.load(tmp_path / "ood.npz")
    assert list(loaded) == list(groups)
    assert ood.score(loaded, seen) == ood.score(groups, seen)


def test_defects_by_hand():
    for name, image, expected in (
        ("sharpness", pixels((8, 8, 1, 10.0)), [0.0, 4.5, 0.0]),  # 10 - 0.55 * 10
        ("sharpness", pixels((8, 7, 0, 8.0), (8, 8, 0, 10.0), (8, 9, 0, 8.0)), [0.1, 0.0, 0.0]),  # 10 - 0.55 * 18
        *(("sharpness", block(row, range(x, x + 3)), [0.0, 0.0, 0.0]) for row, x in ((6, 7), (10, 7), (8, 9), (8, 5))),
        ("sharpness", pixels((8, 8, 0, 10.0), (12, 8, 0, 7.0)), [4.5, 0.0, 0.0]),  # too far away
        ("sharpness", pixels((3, 8, 0, 10.0), (8, 12, 0, 9.0), (12, 8, 0, 9.0), (8, 3, 0, 9.0)), [0.0, 0.0, 0.0]),
        ("sharpness", pixels((4, 4, 0, 10.0), (11, 11, 1, 8.0)), [4.5, 3.6, 0.0]),  # corners of the central half
        ("single_band", pixels((8, 8, 0, 9.0)), [3.0, 0.0, 0.0]),  # over the noise of the band and twice its neighbour
        ("single_band", pixels((8, 8, 1, 9.0), (9, 9, 1, 6.0), (8, 9, 2, 3.0)), [0.0, 4.0, 0.0]),
        ("single_band", pixels((8, 8, 2, 9.0), (8, 8, 1, 2.0)), [0.0, 0.0, 5 / 3]),
        ("single_band", pixels((8, 8, 0, 9.0), (11, 11, 3, 4.0), bands=4), [3.0, 0.0, 0.0, 4 / 3]),
        ("dark_line", pixels((8, 7, 0, 9.0), (8, 9, 0, 6.0)), [6.0, 0.0, 0.0]),
        ("dark_line", pixels((7, 8, 2, 5.0), (9, 8, 2, 6.0), (8, 8, 2, 2.0)), [0.0, 0.0, 3.0]),
        ("dark_line", pixels((4, 8, 0, 5.0), (6, 5, 0, 6.0), (11, 8, 1, 6.0), (9, 6, 1, 7.0)), [5.0, 6.0, 0.0]),
        ("dark_line", pixels((3, 8, 0, 5.0), (5, 5, 0, 6.0), (12, 8, 1, 6.0), (10, 6, 1, 7.0)), [0.0, 0.0, 0.0]),
    ):
        np.testing.assert_allclose(features(image, name)[0], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(features(image, name, 2.0)[0], np.array(expected) / 2, rtol=1e-5, atol=1e-6)
        assert not features(image, name, 0.0).any()


def test_concentration_is_the_ratio_of_gaussian_apertures_or_the_size_of_a_plateau():
    images = pixels((35, 33, 0, 1.0), (30, 31, 1, 8.0), (10, 10, 2, 100.0), size=SIZE)
    r2, light = np.array([3.5**2 + 1.5**2, 1.5**2 + 0.5**2]), np.array([1.0, 8.0 / 4.0])  # in units of the noise
    core, whole = (light @ np.exp(-r2 / (2 * sigma**2)) for sigma in (2.0, 6.0))  # pixels of 64
    assert features(images, "concentration", [[1.0, 4.0, 0.0]]) == pytest.approx(core / whole, rel=1e-6)
    assert features(-images, "concentration").tolist() == [[1.0]]
    for size, (last, is_plateau) in product(
        (32, 64), (((), False), ((1.0,), True), ((0.9992,), True), ((0.9988,), False))
    ):
        values = (1.0,) * 4 + last
        row = [(size // 2, size // 2 - 4 + i, 1, value) for i, value in enumerate(values)]
        assert (features(pixels(*row, size=size, bands=2), "concentration") == len(values)) == is_plateau


def test_score_is_the_largest_distance_of_whitened_features_with_compressed_tails():
    whitening = np.array([[1.0, 0.5], [0.0, 2.0]])
    group = FeatureGroup(np.array([1.0, 2.0]), np.array([2.0, 0.5]), np.array([0.1, -0.2]), whitening, scale=4.0)
    offset = 3 * np.arcsinh(np.array([1.0, 6.0]) / 3) - [0.1, -0.2]
    expected = np.hypot(offset[0], 0.5 * offset[0] + 2 * offset[1]) / 4
    np.testing.assert_allclose(
        ood.score({"": group}, {"": np.array([[3.0, 5.0], [np.nan, 0.0]])}), [expected, FARTHEST], rtol=1e-12
    )
    groups = {"one": unit_group(2), "two": unit_group(1, scale=10.0)}
    seen = {"one": np.array([[0.3, 0.4], [0.0, np.inf], [0.0, 0.0]]), "two": np.array([[0.1], [0.2], [3.0]])}
    first = np.hypot(3 * np.arcsinh(0.1), 3 * np.arcsinh(0.4 / 3))
    np.testing.assert_allclose(ood.score(groups, seen), [first, 1e6, 0.3 * np.arcsinh(1)], rtol=1e-12)
    for factor in (1e36, 1e37, 1e38):  # pixels that overflow
        seen = ood.extract_features(stamps(2.0) * np.float32(factor), None)
        assert ood.score({name: unit_group(values.shape[1]) for name, values in seen.items()}, seen).min() > 3.0


GROUP = {"mean": np.zeros(3), "std": np.ones(3), "centre": np.zeros(3), "whitening": np.eye(3), "scale": np.float64(1)}


def test_file_that_gives_no_score_is_refused(tmp_path):
    path, shapes = tmp_path / "ood.npz", "the shapes of noise do not fit together"
    for message, changes in (
        (shapes, {"mean": np.zeros(2)}),
        (shapes, {"mean": np.zeros((3, 1))}),
        (shapes, {"whitening": np.eye(3)[:2]}),
        (shapes, {"whitening": np.zeros(3)}),
        (shapes, {"scale": np.ones(2)}),
        ("expected finite numbers for noise", {"centre": np.array([0.0, np.nan, 0.0])}),
        ("expected a std and a scale of noise above 0", {"std": np.array([1.0, 0.0, 1.0])}),
        ("expected a std and a scale of noise above 0", {"scale": np.float64(0.0)}),
        ("noise/std", None),
        ("not a readable .npz file", b"PK\x03\x04"),
    ):
        if isinstance(changes, bytes):
            path.write_bytes(changes)
        else:
            group = {"mean": np.zeros(3)} if changes is None else GROUP | changes
            np.savez(path, **{f"noise/{name}": value for name, value in group.items()})
        expected = f"ood.npz does not hold feature groups of the training images: .*{message}"
        with pytest.raises(InvalidBundle, match=expected):
            ood.load(path)
