"""Catalogues, surveys, and samples of galaxies drawn from them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from photoz.errors import InvalidDataset, InvalidInput
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST, TRAIN
from photoz.io.reader import open_cutouts
from tests.training.small import SPEC, N
from training import splits
from training.catalogue import read_kcorrect
from training.galaxies import USUAL, WIDE, Galaxies, draw_galaxies, draw_neighbours
from training.imaging_surveys import NAMES, Observation, extinction_caveats, read_survey, sdss
from training.render import render, render_with_galsim
from training.sample import make_sample
from training.sky import add_sky, draw_sky

TWO_BANDS = ImageSpec(bands="gr")
HEADER = 'title = "Mine"\npixel_scale = 0.5\n'
OTHER = HEADER + "[bands.J]\nextinction = 0.7\nfwhm = 1.0\ndepth = 22.0\n[bands.F606W]\n"


@pytest.mark.parametrize("name", NAMES)
def test_known_surveys_can_be_drawn(name):
    survey = read_survey(name)
    spec = survey.images(size=32)
    assert None not in spec.extinction_coefficients
    assert (np.diff(spec.extinction) < 0).all()
    assert list(survey.observations) == list(spec.bands)
    assert survey.extinction_source
    assert survey.psf_source
    galaxies = draw_galaxies(np.ones((50, len(spec.bands))), spec, np.random.default_rng(0), survey=survey)
    expected = [observation.fwhm for observation in survey.observations.values()]
    np.testing.assert_allclose(np.median(galaxies.fwhm, axis=0), expected, rtol=0.1)


def test_files_describe_other_surveys(tmp_path):
    path = tmp_path / "mine.toml"

    def read(text):
        path.write_bytes(text.encode("latin-1"))
        return read_survey(str(path))

    observation, spec = read(OTHER).observations["J"], read(OTHER).images()
    offset = np.arange(-20.0, 21.0)
    psf = np.exp(-0.5 * (offset[:, np.newaxis] ** 2 + offset**2) * (2.3548 * 0.5) ** 2)
    error = observation.sky_sigma / np.sqrt((psf**2).sum()) * psf.sum()  # of the flux under the best weights
    assert 10.0 ** (0.4 * (22.5 - 22.0)) / error == pytest.approx(5.0, rel=2e-3)  # the depth, sampled by pixels
    assert observation.electrons == np.inf
    given = read(HEADER + "[bands.r]\nfwhm = 1.5\nsky_sigma = 0.2\nelectrons = 9\n[bands.i]\nfwhm = 1")
    assert given.observations == {"r": Observation(1.5, 0.2, 9.0)}
    assert (spec.bands, spec.pixel_scale, spec.extinction_coefficients) == (("J", "F606W"), 0.5, (0.7, None))
    assert extinction_caveats(spec) == ("Not corrected for Galactic extinction in F606W: no coefficient is known.",)
    for text, message in {
        "title = ": f"{path} cannot be read as a survey",
        HEADER.replace("0.5", "0") + "bands = {r = {}}": f"{path} .* pixel_scale: Input should be greater than 0",
        HEADER + "bands = {}": "expected one or more bands",
        HEADER + "bands = {r = {fwhn = 1.0}}": "bands.r.fwhn: Extra inputs are not permitted",
        "\xff": "cannot be read as a survey",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            read(text)
    assert sdss().images() == SDSS_IMAGES
    assert extinction_caveats(SDSS_IMAGES) == ()
    assert read_survey("des").images(("G", "DES_z")).extinction.tolist() == [3.186, 1.196]


def test_kcorrect_has_9986_galaxies_with_a_fixed_split(catalogue):
    order = np.random.default_rng(0).permutation(9986)
    assert np.array_equal(np.sort(order[8000:]), np.flatnonzero(catalogue.split == "test"))
    assert catalogue.describe(("u", "g", "r", "i", "z")).splitlines() == [
        "the table in kcorrect, of SDSS model fluxes and redshifts: 10,000 rows read, 9,986 used",
        "  left out: 14 without 0 < z < 0.4 and positive fluxes",
        "  median magnitudes as observed: u 19.4, g 17.7, r 16.8, i 16.3, z 16.0",
        "  E(B-V): 0.003474 to 0.3254",
        "  z_spec: 0.01011 to 0.3773",
        "  split: 7,200 train, 800 validation, 1,986 test",
    ]
    # EXTINCTION_r of the first row is 0.14023; Schlafly and Finkbeiner's 2.285 would give 0.0614.
    first = [catalogue.ebv[0] * 2.751, catalogue.ra[0], catalogue.dec[0], catalogue.z_spec[0]]
    assert first == pytest.approx([0.14023204, 122.086662, 36.196854, 0.08265872])
    assert (catalogue.object_id[0], catalogue.split[0]) == ("kcorrect-0", "train")
    magnitudes, errors = catalogue.magnitudes[0], catalogue.magnitude_errors[0]
    np.testing.assert_allclose(magnitudes, [18.911047, 17.82719, 17.193905, 16.755476, 16.558312], rtol=1e-6)
    np.testing.assert_allclose(errors, [0.03220999, 0.006415889, 0.005254277, 0.005357192, 0.01121793], rtol=1e-6)
    swapped = read_kcorrect(("z", "g"))
    assert np.array_equal(swapped.fluxes, catalogue.fluxes[:, [4, 1]])
    np.testing.assert_array_equal(swapped.flux_errors, catalogue.flux_errors[:, [4, 1]])
    with pytest.raises(InvalidDataset, match="kcorrect's table has u,g,r,i,z, not y: choose from these with --bands"):
        read_kcorrect(("g", "y"))


@pytest.fixture(scope="module")
def griz():
    return read_kcorrect(SPEC.bands)


def test_sample_has_the_columns_of_the_catalogue_and_is_always_the_same(cutouts, griz):
    assert cutouts.images.shape == (N, 16, 16, 4)
    assert cutouts.spec == SPEC
    assert cutouts.provenance == (
        f"rendered from real photometry: {N} galaxies of the table in kcorrect, of SDSS model fluxes and "
        "redshifts, as seen by Sloan Digital Sky Survey"
    )
    assert np.isfinite(cutouts.images[:]).all()
    for name in ("ebv", "z_spec", "magnitudes", "magnitude_errors", "object_id", "ra", "dec", "split"):
        assert np.array_equal(cutouts.column(name), getattr(griz, name)[:N]), name
    np.testing.assert_allclose(cutouts.images[66][7, 7], [2.337971, 5.744995, 7.69838, 9.807326], rtol=1e-4)
    np.testing.assert_allclose(cutouts.column("offset")[66], [-0.3075996, 0.1467961], rtol=1e-5)
    assert np.flatnonzero(cutouts.column("n_neighbours")).tolist() == [47]


def test_file_does_not_depend_on_the_number_of_workers_and_galsim_draws_the_same(tmp_path, griz):
    cases = (("one", 70, "fft", 1), ("two", 70, "fft", 2), ("a", 3, "fft", 1), ("b", 3, "galsim", 1))
    for name, n, renderer, workers in cases:
        path, spec = tmp_path / f"{name}.h5", ImageSpec(size=8, bands="griz")
        make_sample(griz.head(n), path, spec, seed=7, renderer=renderer, workers=workers)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    with open_cutouts(tmp_path / "a.h5") as ours, open_cutouts(tmp_path / "b.h5") as theirs:
        np.testing.assert_allclose(theirs.images[:], ours.images[:], atol=0.1)
        assert not np.array_equal(theirs.images[:], ours.images[:])


def test_renders_add_cutouts_of_galaxies_not_for_testing(tmp_path, griz, cutouts):
    make_sample(griz.head(N), tmp_path / "thrice.h5", SPEC, renders=3, workers=1)
    with open_cutouts(tmp_path / "thrice.h5") as thrice:
        again = np.tile(np.flatnonzero(cutouts.column("split") != TEST), 2)
        assert len(thrice) == N + len(again)
        assert thrice.provenance == f"{cutouts.provenance}; 3 renders of those not tested on"
        np.testing.assert_array_equal(thrice.images[:N], cutouts.images[:])
        for name in ("object_id", "z_spec", "split", "magnitudes"):
            np.testing.assert_array_equal(thrice.column(name)[N:], cutouts.column(name)[again])
        assert not np.isclose(thrice.column("position_angle")[N:], cutouts.column("position_angle")[again]).any()
        first, galaxy = splits.group_by_galaxy(thrice, thrice.rows(TRAIN))
        np.testing.assert_array_equal(np.sort(first), cutouts.rows(TRAIN))
        assert np.bincount(galaxy).tolist() == [3] * len(first)
        np.testing.assert_allclose(thrice.column("offset")[N + 3], [-0.5227235, 0.3021406], rtol=1e-5)
        np.testing.assert_allclose(thrice.images[N + 3][7, 7], [3.613328, 9.656055, 14.33692, 19.15419], rtol=1e-4)


@pytest.fixture
def magnitudes_file(tmp_path, griz):
    frame = pd.DataFrame(griz.head(40).magnitudes, columns=list("griz")).assign(specz=griz.z_spec[:40])
    frame.to_csv(tmp_path / "cat.csv", index=False)
    return tmp_path / "cat.csv"


def test_file_of_magnitudes_becomes_a_sample(tmp_path, magnitudes_file, griz, run_cli):
    out, report = tmp_path / "sample.h5", tmp_path / "report.txt"
    options = ("--columns", "z_spec=specz", "--select", "r>16,z_spec>0.05", "--limit", 5, "--workers", 1)
    places = (out, "--catalogue", magnitudes_file, "--reading-report", report)
    output = run_cli("sample", *places, *options, "--bands", "griz", "--size", 16)
    chosen = np.flatnonzero((griz.magnitudes[:40, 1] > 16) & (griz.z_spec[:40] > 0.05))
    for line in (
        report.read_text(),
        f"{out}: 5 galaxies of 16x16 pixels in g,r,i,z\n",
        "cat.csv: 40 rows read, 5 used",
        f"left out: {40 - len(chosen)} that do not meet r>16,z_spec>0.05",
        f"left out: {len(chosen) - 5} after the first 5",
        "E(B-V): unknown for 5\n",
    ):
        assert line in output
    with open_cutouts(out) as cutouts:
        assert cutouts.provenance.endswith(": 5 galaxies of cat.csv, as seen by Sloan Digital Sky Survey")
        assert np.isnan(cutouts.column("ebv")).all()
        np.testing.assert_allclose(cutouts.column("z_spec"), griz.z_spec[chosen[:5]])
        np.testing.assert_allclose(cutouts.column("magnitudes"), griz.magnitudes[chosen[:5]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dereddened", "--columns and --dereddened describe a file: expected --catalogue FILE"),
        ("--catalogue FILE --bands griz --dereddened", "--dereddened needs E(B-V)"),
        ("--catalogue FILE --bands griz --columns z_spec=typo", "lacks the columns z_spec=typo; it has g, r, i, z, sp"),
        ("--catalogue FILE --columns u=g,u=r", "expected name=column,... with distinct names, got 'u=g,u=r'"),
        ("--select r", "expected conditions such as"),
        ("--bands gg", "cannot draw 64 pixels in the bands 'gg': expected 8 to 1024 pixels and distinct bands"),
        ("--survey legcy", "no survey legcy: expected one of des, hsc, kids, legacy, lsst, ps1, sdss, or a file"),
        ("--catalogue FILE --bands griz --quantity flux", "These look like magnitudes: use --quantity magnitude"),
    ],
)
def test_unusable_options_are_refused(tmp_path, magnitudes_file, griz, refused, options, message):
    options = options.replace("FILE", str(magnitudes_file)).split()
    assert message in refused("sample", tmp_path / "s.h5", *options)
    with pytest.raises(InvalidDataset, match="cannot draw y: Sloan Digital Sky Survey has seeing and noise of u,g,r,i"):
        make_sample(griz.head(2), tmp_path / "s.h5", ImageSpec(bands="griy"))
    assert list(tmp_path.iterdir()) == [magnitudes_file]


def draw(catalogue, seed, rows=slice(None)):
    return draw_galaxies(catalogue.fluxes[rows], SDSS_IMAGES, np.random.default_rng(seed))


def test_render_agrees_with_galsim_and_with_the_middle_of_a_wide_stamp(catalogue):
    drawn = draw(catalogue, 6)
    widest = np.argsort(drawn.half_light_radius / np.sqrt(drawn.axis_ratio))[-20:]
    rows = np.append(np.arange(0, len(drawn), 500), widest)  # any galaxies, and the largest ones
    some = Galaxies(**{name: values[rows] for name, values in vars(drawn).items()})
    by_band = ("fluxes", "fwhm", "psf_sigma_ratio", "psf_amplitude_ratio")
    some = replace(some, **{name: getattr(some, name)[:, 1:3] for name in by_band})
    ours, theirs = render(some, TWO_BANDS), render_with_galsim(some, TWO_BANDS)
    np.testing.assert_allclose(ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2)), rtol=1e-3)
    np.testing.assert_allclose(ours.max(axis=(1, 2)), theirs.max(axis=(1, 2)), rtol=2e-3)
    assert (np.abs(ours - theirs).max(axis=(1, 2)) < 2e-3 * theirs.max(axis=(1, 2))).all()
    few = replace(some, **{name: values[::4] for name, values in vars(some).items()})
    wide = render(few, replace(TWO_BANDS, size=512))
    np.testing.assert_allclose(wide.sum(axis=(1, 2)), few.fluxes, rtol=1e-3)
    middle = wide[:, 224:288, 224:288]
    np.testing.assert_allclose(ours[::4], middle, atol=1e-4 * middle.max())
    np.testing.assert_allclose(ours[::4].sum(axis=(1, 2)), middle.sum(axis=(1, 2)), rtol=1e-3)


def test_noise_is_sky_and_photon_noise_as_in_the_catalogue(catalogue):
    galaxies = draw(catalogue, 5, slice(400))
    stamps, sky = render(galaxies, SDSS_IMAGES), draw_sky(400, SDSS_IMAGES, np.random.default_rng(1))
    variance = sky.sky_sigma[:, None, None] ** 2 + stamps / sky.electrons[:, None, None]
    noise = add_sky(stamps, sky, np.random.default_rng(0)) - stamps - sky.sky_left_in[:, None, None]
    scaled = noise / np.sqrt(variance)
    for is_resampled, expected in ((False, 1.0), (True, 0.873)):
        some = scaled[sky.is_resampled == is_resampled]
        for part in (some[:, :8, :8], some[:, 28:36, 28:36]):
            np.testing.assert_allclose(part.std(axis=(0, 1, 2)), expected, atol=0.03)
    beside = (some[:, :, 1:] * some[:, :, :-1]).mean() / (some**2).mean()
    assert beside == pytest.approx(0.156, abs=0.005)
    bright = (noise[:, 28:36, 28:36, 1] / sky.sky_sigma[:, None, None, 1]).std()  # g, where the sky is dark
    assert bright > 1.2
    # Fluxes under the true profile have smaller errors than SDSS's model fluxes (docs/decisions.md).
    some = np.arange(0, len(catalogue), 20)
    drawn, sky = draw(catalogue, 2, some), draw_sky(len(some), SDSS_IMAGES, np.random.default_rng(2))
    profiles = render(replace(drawn, fluxes=np.ones_like(drawn.fluxes)), SDSS_IMAGES)
    square = (profiles**2).sum(axis=(1, 2))
    photons = drawn.fluxes * (profiles**3).sum(axis=(1, 2)) / square**2 / sky.electrons
    ratio = np.nanmedian(np.sqrt(sky.sky_sigma**2 / square + photons) / catalogue.flux_errors[some], axis=0)
    np.testing.assert_allclose(ratio, [0.86, 0.87, 0.86, 0.76, 0.92], atol=0.03)


def test_sky_of_a_camera_is_common_to_the_bands_of_a_run():
    """Medians and scatter of the noise are those of real cutouts, u to z; see training/surveys/sdss.toml."""
    sky = draw_sky(20_000, SDSS_IMAGES, np.random.default_rng(0))
    np.testing.assert_allclose(np.median(sky.sky_sigma, axis=0), [0.043, 0.018, 0.029, 0.043, 0.174], rtol=0.03)
    logarithm = np.log(sky.sky_sigma)
    np.testing.assert_allclose(logarithm.std(axis=0), 0.18, atol=0.04)
    correlation = np.corrcoef(logarithm.T)
    assert correlation[2, 3] > correlation[1, 2] > correlation[0, 1] > 0.1
    left_in = sky.sky_left_in / sky.sky_sigma
    np.testing.assert_allclose(left_in.std(axis=0), np.hypot(*USUAL.sky_left_in), rtol=0.03)
    assert np.corrcoef(left_in.T)[0, 4] == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(np.median(sky.electrons, axis=0), [195, 1110, 910, 790, 127], rtol=0.03)
    assert sky.is_resampled.mean() == pytest.approx(0.5, abs=0.02)
    des = read_survey("des")
    plain = draw_sky(20_000, des.images(), np.random.default_rng(0), survey=des)
    medians = [observation.sky_sigma for observation in des.observations.values()]
    np.testing.assert_allclose(np.median(plain.sky_sigma, axis=0), medians, rtol=0.02)


def test_galaxies_of_a_seed_are_always_the_same(catalogue):
    drawn = draw_galaxies(catalogue.fluxes[:3], SDSS_IMAGES, np.random.default_rng(1), WIDE)
    assert {name: values[1].tolist() for name, values in drawn.columns().items()} == {
        "half_light_radius": pytest.approx(1.995189, rel=1e-6),
        "axis_ratio": pytest.approx(0.3919967, rel=1e-6),
        "position_angle": pytest.approx(2.276995, rel=1e-6),
        "bulge_fraction": pytest.approx(0.9438529, rel=1e-6),
        "offset": pytest.approx([0.8300493, 0.3390099], rel=1e-6),
        "fwhm": pytest.approx([1.669567, 1.67665, 1.486224, 1.390673, 1.38258], rel=1e-6),
        "psf_sigma_ratio": [2.09, 2.17, 2.53, 2.64, 2.47],
        "psf_amplitude_ratio": [0.13, 0.12, 0.08, 0.06, 0.08],
    }
    rows, neighbours = draw_neighbours(draw(catalogue, 1, slice(20)), SDSS_IMAGES, np.random.default_rng(1))
    assert rows.tolist() == [1, 2, 4, 7, 9, 15, 17, 17, 17]
    np.testing.assert_allclose(neighbours.fluxes[0], [1.4072, 7.424519, 16.18804, 23.31292, 30.58353], rtol=1e-6)
    expected = [0.7006158, 0.5, 0.05, 0.5, 0.05, 0.05, 0.8197018, 0.05, 0.05]
    np.testing.assert_allclose(neighbours.half_light_radius, expected, rtol=1e-6)
    np.testing.assert_allclose(neighbours.offset[0], [-16.53623, 11.75645], rtol=1e-6)


def test_shapes_and_neighbours_carry_no_information_about_redshift(catalogue):
    """A galaxy differs in z from its twin in magnitude and colour independently of their shapes; a leak is noticed."""
    drawn, magnitudes, z_spec = draw(catalogue, 4), catalogue.magnitudes, catalogue.z_spec
    known = np.stack([magnitudes[:, 2], magnitudes[:, 0] - magnitudes[:, 2]], axis=1)  # shapes are drawn from these
    twin = cKDTree(known).query(known, 2)[1][:, 1]

    def correlation(shape):
        return np.corrcoef(np.log(shape / shape[twin]), z_spec - z_spec[twin])[0, 1]

    for shape in (drawn.half_light_radius, drawn.axis_ratio, drawn.bulge_fraction):
        assert abs(correlation(shape)) < 4 / np.sqrt(len(z_spec))
    assert correlation(drawn.half_light_radius * (0.1 / z_spec) ** 0.5) < -0.1
    rows, neighbours = draw_neighbours(draw(catalogue, 3, slice(4000)), SDSS_IMAGES, np.random.default_rng(3))
    assert len(rows) / 4000 == pytest.approx(0.5, abs=0.05)
    distance = np.hypot(*neighbours.offset.T) / 64
    assert 0.2 <= distance.min() < 0.21 < 0.49 < distance.max() <= 0.5
    colour = 2.5 * np.log10(neighbours.fluxes[:, 2] / neighbours.fluxes[:, 1])
    assert abs(np.corrcoef(colour, catalogue.z_spec[rows])[0, 1]) < 4 / np.sqrt(len(rows))
