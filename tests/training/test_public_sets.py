"""Published sets, written to their layouts with h5py, numpy and astropy, are read, converted and refused."""

import re

import h5py
import numpy as np
import pytest
from astropy.table import Table

from photoz.errors import InvalidDataset
from photoz.io.public_sets import GALAXIES_ML, PICZL, SSL_LEGACYSURVEY
from photoz.io.reader import open_cutouts
from training.imaging_surveys import read_survey

N, SIZE = 6, 12
RNG = np.random.default_rng(2)
REDSHIFTS = np.array([0.1, -99.0, 0.3, np.nan, 0.0, 0.6], dtype=np.float32)
KNOWN = [0, 2, 4, 5]
HSC = 10 ** (0.4 * (22.5 - 27.0))  # nanomaggies per count
PIXELS = RNG.normal(1.0, size=(N, 5, SIZE, SIZE)).astype(np.float32)
GOOD = RNG.uniform(size=PIXELS.shape) > 0.1
GOOD[0, 0, 0, 0] = False


def bands_last(pixels):
    return np.moveaxis(pixels, 1, -1)


def write(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values)
    return path


def galaxies_ml(**changes):
    magnitudes = {f"{band}_cmodel_mag": np.full(N, 20.0) for band in "grizy"}
    pairs = {"x_coord_x": np.zeros((N, 2)), "specz_name": [b"DEEP2"] * N, "specz_flag_homogeneous": np.ones(N, bool)}
    columns = {"image": PIXELS, "object_id": np.arange(N) + 37484837186150000, "specz_redshift": REDSHIFTS}
    return columns | magnitudes | pairs | changes


def ssl_legacysurvey(**changes):
    identity = {"release": np.full(N, 9010), "brickid": np.arange(N) + 330000, "objid": np.full(N, 7)}
    others = {"flux": np.ones((N, 3)), "psfsize": np.ones((N, 3)), "inds": np.arange(N), "ra": np.arange(N) * 1.0}
    columns = {"images": PIXELS[:, :3], "z_spec": REDSHIFTS, "ebv": np.linspace(0.01, 0.06, N)}
    return columns | identity | others | {"dec": -np.arange(N) * 1.0} | changes


def universe(bands="hsc-g hsc-r hsc-i hsc-z hsc-y", scale=0.168, **changes):
    names = np.array([bands.encode().split()] * N, dtype=h5py.string_dtype("utf-8", 5))
    n_bands = names.shape[1]
    columns = {
        "image_array": PIXELS[:, :n_bands],
        "image_band": names,
        "image_scale": np.full((N, n_bands), scale, np.float32),
        "image_mask": GOOD[:, :n_bands],
        "image_ivar": np.ones((N, n_bands, SIZE, SIZE), np.float32),
        "image_psf_fwhm": np.full((N, n_bands), 0.7, np.float32),
        "object_id": np.arange(N) + 40000000000000000,
        "ra": np.arange(N) * 1.0,
        "g_cmodel_mag": np.full(N, 20.0),
    }
    return {name: values for name, values in (columns | changes).items() if values is not None}


def piczl(folder, n_images=N, bands=4, **columns):
    folder.mkdir()
    (folder / "demo_images").mkdir()
    images = np.abs(RNG.normal(size=(bands, n_images, SIZE, SIZE))).astype(np.float32)
    np.save(folder / "demo_images" / "processed_dered_griz_images.npy", images)
    np.save(folder / "demo_images" / "dered_griz_models.npy", images + 1.0)
    np.save(folder / "demo_images" / "aperture_images_LS10.npy", np.array({"g": images}, dtype=object))
    catalogue = {"z": np.linspace(0.1, 0.6, N), "FULLID": [f"10000_{i}" for i in range(N)], "RA": np.ones(N)}
    Table({**catalogue, "type": ["SER"] * N, **columns}).write(folder / "demo_catalog.fits")
    return images


def converted(run_cli, source, target, *options, used=N):
    """Convert a set; return its spec, images and columns, and the report on it."""
    target.unlink(missing_ok=True)
    report = run_cli("convert", source, target, *options)
    assert f"{target}: {used} cutouts" in report
    with open_cutouts(target) as cutouts:
        assert cutouts.reading.assumed == []
        return cutouts.spec, cutouts.images[:], dict(cutouts.columns), report


def test_surveys_and_sets_agree():
    for found, name in ((GALAXIES_ML, "hsc"), (SSL_LEGACYSURVEY, "legacy"), (PICZL, "legacy")):
        survey = read_survey(name)
        assert (found.pixel_scale, found.unit) == (survey.pixel_scale, survey.unit)
        assert (found.zero_point, set(found.bands) <= survey.bands.keys()) == (survey.zero_point, True)


def test_galaxies_ml(run_cli, tmp_path):
    for part in ("training", "testing"):
        write(tmp_path / "set" / f"5x12x12_{part}_with_morphology.hdf5", galaxies_ml())
    target = tmp_path / "hsc.h5"
    options = ("--survey", "hsc", "--size", 8, "--select", "z_spec>=0")
    spec, images, columns, report = converted(run_cli, tmp_path / "set", target, *options, used=2 * len(KNOWN))
    assert (spec.bands, spec.pixel_scale, spec.unit) == (tuple("grizy"), 0.168, "nanomaggy")
    assert spec.extinction_coefficients == (3.240, 2.276, 1.633, 1.263, 1.075)
    np.testing.assert_allclose(images[:4], HSC * bands_last(PIXELS)[KNOWN, 2:10, 2:10], rtol=1e-6)
    np.testing.assert_array_equal(columns["z_spec"], np.tile(REDSHIFTS[KNOWN], 2))
    assert columns["object_id"][1] == "37484837186150002"
    assert columns["split"].tolist() == ["test"] * 4 + ["train"] * 4
    for words in (
        "12 cutouts read, 8 used, 4 left out: not z_spec>=0",
        "assumed: the set is GalaxiesML: bands g,r,i,z,y, the zero point 27, 0.168 arcsec per pixel\n",
        "assumed: the split is that in the name of the file",
        "used: the column specz_redshift is z_spec",
        "used: the central 8x8 of 12x12 pixels",
        "used: pixels are multiplied by 0.0158489, for the zero point 27",
    ):
        assert words in report


def test_ssl_legacysurvey(run_cli, tmp_path):
    source = write(tmp_path / "images_npix152_000000000_001000000.h5", ssl_legacysurvey())
    spec, images, columns, report = converted(run_cli, source, tmp_path / "stein.h5", "--survey", "legacy")
    assert (spec.bands, spec.pixel_scale) == (("g", "r", "z"), 0.262)
    assert spec.extinction_coefficients == (3.214, 2.165, 1.211)
    np.testing.assert_array_equal(images, bands_last(PIXELS[:, :3]))
    np.testing.assert_array_equal(columns["z_spec"], REDSHIFTS)
    np.testing.assert_allclose(columns["ebv"], np.linspace(0.01, 0.06, N))
    assert columns["object_id"][2] == "9010-330002-7"
    assert "assumed: object_id is release-brickid-objid" in report
    write(source, {name: values for name, values in ssl_legacysurvey().items() if name != "release"})
    assert converted(run_cli, source, tmp_path / "stein.h5")[2]["object_id"].tolist() == list("012345")
    converted(run_cli, tmp_path / "stein.h5", tmp_path / "again.h5")  # a converted file is like any other


def test_multimodal_universe(run_cli, tmp_path):
    folder, target = tmp_path / "pdr3_dud_22.5", tmp_path / "mmu.h5"
    for number in (1175, 99):
        write(folder / f"healpix={number}" / "001-of-001.hdf5", universe())
    spec, images, columns, report = converted(run_cli, folder, target, used=2 * N)
    assert (spec.bands, spec.unit) == (tuple("grizy"), "nanomaggy")
    assert spec.pixel_scale == pytest.approx(0.168)
    expected = bands_last(np.where(GOOD, HSC * PIXELS, np.nan))
    np.testing.assert_allclose(images, np.concatenate([expected, expected]), rtol=1e-6)
    assert np.isnan(images[0, 0, 0, 0])
    assert columns["object_id"][7] == "40000000000000001"
    assert columns["image_psf_fwhm"].shape == (2 * N, 5)
    assert "assumed: image_mask is True for good pixels; the others are NaN" in report
    assert "left out: the datasets image_ivar" in report
    assert "assumed: there are no redshifts; training needs a column z_spec" in report
    assert "expected a column 'z_spec'" in run_cli("convert", folder, target, "--select", "z_spec>0", exit_codes=(1,))
    legacy = universe(
        "des-g des-r des-i des-z",
        0.262,
        object_id=np.array([b"0001p000-12"] * N),
        image_mask=None,
        bit_mask=GOOD[:, 0],
        image_model=np.zeros((N, SIZE, SIZE, 3), np.uint8),
        object_mask=np.zeros((N, SIZE, SIZE), np.uint8),
        EBV=np.full(N, 0.02),
        z_spec=REDSHIFTS,
    )
    source = write(tmp_path / "healpix=7" / "001-of-001.hdf5", legacy)
    spec, images, columns, report = converted(run_cli, source, target, "--bands", "zg", "--survey", "legacy")
    assert spec.extinction_coefficients == (1.211, 3.214)
    expected = np.where(GOOD[:, :1], PIXELS[:, [3, 0]], np.nan)
    np.testing.assert_array_equal(images, bands_last(expected))
    np.testing.assert_array_equal(columns["ebv"], 0.02)
    assert columns["object_id"][0] == "0001p000-12"
    assert "left out: the datasets image_ivar, image_model, object_mask" in report
    with open_cutouts(source) as cutouts:
        np.testing.assert_array_equal(cutouts.images[2:4], np.where(GOOD[2:4, :1], PIXELS[2:4, :4], np.nan))


def test_piczl(run_cli, tmp_path):
    expected = np.moveaxis(piczl(tmp_path / "train"), 0, -1)
    spec, images, columns, report = converted(run_cli, tmp_path / "train", tmp_path / "piczl.h5", "--survey", "legacy")
    assert (spec.bands, spec.pixel_scale, spec.size) == (tuple("griz"), 0.262, SIZE)
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_allclose(columns["z_spec"], np.linspace(0.1, 0.6, N))
    np.testing.assert_array_equal(columns["ebv"], 0.0)
    assert columns["object_id"][2] == "10000_2"
    assert "assumed: the images are dereddened, so E(B-V) is 0" in report
    assert "assumed: processed_dered_griz_images.npy has the only images that are used" in report


DROPPED = {name: values for name, values in galaxies_ml().items() if name != "specz_redshift"}
MIXED = np.array([[b"hsc-g", b"hsc-r"]] * 5 + [[b"hsc-r", b"hsc-g"]])
SCALES = np.linspace(0.16, 0.3, N)[:, np.newaxis]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (galaxies_ml(image=PIXELS[:, :4]), r"expected 5 bands .* got shape \(6, 4, 12, 12\)"),
        (galaxies_ml(specz_redshift=REDSHIFTS[:5]), "expected 6 values of 'specz_redshift', .* got 5"),
        (galaxies_ml(image=PIXELS[:, 0]), "expected 6 values|expected images of four axes"),
        (DROPPED, "expected a column 'z_spec'"),
        (ssl_legacysurvey(images=PIXELS[:, :4]), r"expected 3 bands .* got shape \(6, 4, 12, 12\)"),
        (universe(image_band=MIXED), "the same image_band for all galaxies .* got hsc-g,hsc-r; hsc-r,hsc-g"),
        (universe("hsc-g des-r"), "image_band of one camera, .* got hsc-g,des-r"),
        (universe("f444w f115w"), "such as hsc-g or des-g, .* got f444w,f115w"),
        (universe(image_scale=SCALES), "one image_scale .* got 0.16 to 0.3 arcsec"),
        (universe(image_mask=GOOD[:, :, :8]), r"expected image_mask of .* \(6, 5, 12, 12\), got \(6, 5, 8, 12\)"),
        (universe("hsc-g hsc-r hsc-i", image_array=PIXELS, image_mask=GOOD), r"expected 3 bands .* got shape \(6, 5"),
        (universe(image_band=np.ones((N, 0))), "cannot be read|image_band"),
    ],
)
def test_other_files_are_refused(run_cli, tmp_path, columns, message):
    source = write(tmp_path / "mine.hdf5", columns)
    output = run_cli("convert", source, tmp_path / "mine.h5", "--select", "z_spec>=0", exit_codes=(1,))
    assert not (tmp_path / "mine.h5").exists()
    assert re.search(message, output), output


def test_shards_of_several_cameras_are_refused(run_cli, tmp_path):
    write(tmp_path / "healpix=1" / "a.hdf5", universe())
    write(tmp_path / "healpix=2" / "a.hdf5", universe("des-g des-r des-i des-z", 0.262))
    assert "expected files of one layout" in run_cli("convert", tmp_path, tmp_path / "mine.h5", exit_codes=(1,))


def test_other_folders_are_refused(tmp_path):
    def refuse(name, message, **changes):
        piczl(tmp_path / name, **changes)
        with pytest.raises(InvalidDataset, match=message), open_cutouts(tmp_path / name):
            pass

    refuse("bands", r"bands g,r,i,z, \(4, n, size, size\), in .* got \(3, 6, 12, 12\)", bands=3)
    refuse("length", "expected 5 values of 'z', one for each cutout, got 6", n_images=5)
    (tmp_path / "length" / "demo_catalog.fits").unlink()
    with pytest.raises(InvalidDataset, match="expected one catalogue, .* got none"), open_cutouts(tmp_path / "length"):
        pass
