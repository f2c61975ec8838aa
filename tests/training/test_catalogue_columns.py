"""Units, names, identifiers, splits and redshifts of catalogues: nothing is guessed, and no row is lost in silence."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec
from training.catalogue_reader import read_catalogue

BANDS, N = ["g", "r", "i"], 20
ENDS = {"g": (18.0, 21.0), "r": (17.2, 20.0), "i": (16.9, 19.6), "z_spec": (0.02, 0.38)}
MAGNITUDES = pd.DataFrame({name: np.linspace(*ends, N) for name, ends in ENDS.items()})
NANOMAGGIES = MAGNITUDES.assign(**{band: 10.0 ** (0.4 * (22.5 - MAGNITUDES[band])) for band in BANDS})
IDS = 1237648720693755918 + np.arange(N)  # beyond 2**53
SUFFIXES = [".fits", ".ecsv", ".vot", ".parquet", ".astropy.parquet"]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a frame or a table with units, as other programs do, and returns the path."""

    def path(frame, units=(), suffix=".ecsv"):
        path, units = tmp_path / f"cat{suffix}", dict(units)
        if suffix == ".parquet":
            table = pa.Table.from_pandas(frame)
            for number, name in enumerate(table.column_names):
                described = table.field(name).with_metadata({"unit": units[name]} if name in units else {})
                table = table.set_column(number, described, table[name])
            parquet.write_table(table, path)
            return path
        table = frame if isinstance(frame, Table) else Table.from_pandas(frame)
        if suffix != ".fits":
            for name, unit in units.items():
                table[name].unit = unit
        formats = {".ecsv": "ascii.ecsv", ".vot": "votable", ".fits": "fits", ".astropy.parquet": "parquet"}
        table.write(path, format=formats[suffix], overwrite=True)
        if suffix == ".fits":
            with fits.open(path, mode="update") as hdus:  # astropy does not write units that others do
                for number, name in enumerate(table.colnames, 1):
                    hdus[1].header[f"TUNIT{number}"] = units.get(name, "")
        return path

    return path


def read(path, quantity="magnitude", columns=()):
    return read_catalogue(path, dict(columns), ImageSpec(bands="gri"), are_magnitudes=quantity == "magnitude")


def refusal(*arguments):
    with pytest.raises(InvalidDataset, match=r"^[^\n]*$") as caught:
        read(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fluxes_are_converted_from_the_units_of_their_columns(write, suffix):
    nanojansky = NANOMAGGIES[BANDS] * 3631.0
    frame = nanojansky.assign(r=nanojansky.r / 1e3, g_err=0.1 * nanojansky.g, r_err=0.1 * nanojansky.r)
    units = {"g": "nJy", "r": "uJy", "i": "nJy", "r_err": "nJy"}
    path = write(frame, units, suffix)
    galaxies = read(path, "flux")
    np.testing.assert_allclose(galaxies.magnitudes, MAGNITUDES[BANDS])
    np.testing.assert_allclose(galaxies.flux_errors[:, :2] / galaxies.fluxes[:, :2], 0.1)
    assert galaxies.report.notes[1:3] == ("converted from nJy: g,i,r_err", "converted from uJy: r")
    contradiction = "column 'g' has the unit nJy, but --quantity is magnitude: use --quantity flux, or correct the unit"
    assert contradiction in refusal(path)


def test_nanomaggies_have_several_names_in_fits_files(write):
    galaxies = read(write(NANOMAGGIES, {"g": "nanomaggies", "r": "nmgy", "i": "nanomaggy"}, ".fits"), "flux")
    np.testing.assert_allclose(galaxies.magnitudes, MAGNITUDES[BANDS])
    assert "converted" not in str(galaxies.report)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_magnitudes_and_reddening_are_in_the_units_of_their_columns(write, suffix):
    frame = MAGNITUDES.assign(ebv=50.0, g_err=30.0)
    path = write(frame, {**dict.fromkeys(BANDS, "mag"), "ebv": "mmag", "g_err": "mmag"}, suffix)
    galaxies = read(path)
    np.testing.assert_allclose(galaxies.magnitudes, MAGNITUDES[BANDS])
    np.testing.assert_allclose([galaxies.ebv, galaxies.magnitude_errors[:, 0]], [[0.05] * N, [0.03] * N])
    assert galaxies.report.notes[1:3] == ("converted from mmag: g_err", "converted from mmag: ebv")
    assert "column 'g' has the unit mag, but --quantity is flux: use --quantity magnitude" in refusal(path, "flux")


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"g": "nJy"}, "column 'g' has the unit nJy, but column 'r' has none: expected a unit for each band"),
        ({"i": "MJY"}, "column 'i' has the unit MJY; expected nanomaggy, Jy, uJy, nJy or erg/s/cm2/Hz"),
        ({"ebv": "K"}, "column 'ebv' has the unit K; expected mag or mmag"),
        ({"z_spec": "km/s"}, "column 'z_spec' has the unit km / s: it holds velocities; expected redshifts"),
    ],
)
def test_units_that_cannot_be_converted_are_refused(write, units, message):
    assert message in refusal(write(NANOMAGGIES.assign(ebv=0.1), units, ".fits"), "flux")


@pytest.mark.parametrize("unit", ["rad", "h", "hourangle"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_positions_become_degrees(write, suffix, unit):
    per = {"rad": np.degrees(1.0), "h": 15.0, "hourangle": 15.0}[unit]
    ra, dec = np.linspace(1.0, 350.0, N), np.linspace(-60.0, 60.0, N)
    path = write(MAGNITUDES.assign(RA=ra / per, dec=np.radians(dec)), {"RA": unit, "dec": "rad"}, suffix)
    galaxies = read(path)
    np.testing.assert_allclose([galaxies.ra, galaxies.dec], [ra, dec])
    notes = [note for note in galaxies.report.notes if "converted" in note]
    if unit == "rad":
        assert notes == ["converted from rad: RA,dec"]
    else:
        assert notes[1] == "converted from rad: dec"
        assert notes[0].endswith(": RA")  # VOTable has "15 deg" for hourangle


def test_a_magnitude_is_never_a_redshift(write):
    frame = MAGNITUDES.rename(columns={"z_spec": "Z"})
    for columns, units in ((frame.assign(Z=17.0), {"Z": "mag"}), (frame, {})):
        galaxies = read(write(columns, units))  # beside g, r and i it may be a band
        assert np.isnan(galaxies.z_spec).all()
        assert "z_spec is unknown: no column z_spec" in galaxies.report.notes
    path = write(frame.rename(columns={"Z": "Redshift"}))
    assert "the column Redshift is z_spec" in read(path).report.notes
    np.testing.assert_allclose(read(path).z_spec, MAGNITUDES.z_spec)
    path = write(frame.assign(Z=17.0).rename(columns={"g": "mag_g", "r": "mag_r", "i": "mag_i"}), {"Z": "mag"})
    assert np.isnan(read(path, "magnitude", {band: f"mag_{band}" for band in BANDS}).z_spec).all()
    several = write(MAGNITUDES.rename(columns={"z_spec": "specz"}).assign(redshift=0.1))
    assert "any of the columns specz, redshift may be z_spec: rename one of them to z_spec" in refusal(several)


@pytest.mark.parametrize("name", ["objid", "object_id", "id", "TARGETID", "SOURCE_ID", "objectId", "specObjID"])
def test_common_names_of_identifiers_are_known(write, name):
    galaxies = read(write(MAGNITUDES.assign(**{name: IDS})))
    assert galaxies.object_id.tolist() == IDS.astype(str).tolist()
    expected = () if name == "object_id" else (f"the column {name} is object_id",)
    assert tuple(note for note in galaxies.report.notes if "object_id" in note) == expected


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".csv", "-nullable.parquet"])
def test_unknown_identifiers_are_blank_and_others_keep_their_digits(write, tmp_path, suffix):
    table = Table.from_pandas(MAGNITUDES)
    table["objid"] = MaskedColumn(IDS, mask=np.arange(N) == 3, fill_value=-9999)
    if suffix == ".parquet":
        frame = pa.table({**MAGNITUDES, "objid": pa.array(IDS, mask=table["objid"].mask)})
        parquet.write_table(frame, path := tmp_path / "cat.parquet")
    elif suffix in (".csv", "-nullable.parquet"):
        frame, path = table.to_pandas(), tmp_path / f"cat{suffix}"
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    else:
        path = write(table, (), suffix)
    assert read(path).object_id.tolist() == [*IDS[:3].astype(str), "row-3", *IDS[4:].astype(str)]


def test_identifiers_that_have_lost_digits_are_refused(write, tmp_path):
    advice = "which do not hold all digits of an identifier: write integers or text"
    for ids in (IDS.astype(np.float64), np.arange(N).astype(np.float32) + 2**24, np.arange(N) + 0.5):
        message = refusal(write(MAGNITUDES.assign(id=ids)))
        assert f"column 'id' has floating-point numbers, such as {float(ids[0]):.17g}, {advice}" in message
    MAGNITUDES.assign(id=IDS.astype(np.float64)).to_csv(tmp_path / "cat.csv", index=False)
    assert advice in refusal(tmp_path / "cat.csv")
    few = read(write(MAGNITUDES.assign(id=[np.nan, *np.arange(1.0, N)])))
    assert few.object_id[:3].tolist() == ["row-0", "1", "2"]


def test_words_for_the_splits_have_synonyms_and_others_are_refused(write):
    words = ["Training", "val", "VALID", "dev", "testing", "train", "Validation", "test", "", "none"]
    galaxies = read(write(MAGNITUDES.assign(split=words * 2)))
    train, validation, test = "train", "validation", "test"
    expected = [train, validation, validation, validation, test, train, validation, test]
    assert galaxies.split.tolist() == 2 * expected
    assert galaxies.report.left_out["without a word in split"] == 4
    message = refusal(write(MAGNITUDES.assign(split=["holdout", "x"] * 10)))
    accepted = "train, training, validation, valid, val, dev, test, testing, or an empty field to leave out a row"
    assert message.endswith(f"column 'split' has 'holdout', 'x'; expected {accepted}")


def test_impossible_redshifts_are_left_out_with_an_example_and_velocities_refused(write):
    frame = MAGNITUDES.assign(id=[f"q{row}" for row in range(N)])
    frame.loc[[2, 5], "z_spec"], frame.loc[7, "z_spec"], frame.loc[8, "z_spec"] = -0.02, 12.5, 5.0
    galaxies = read(write(frame))
    lines = galaxies.describe(tuple(BANDS)).splitlines()
    assert [line.strip() for line in lines if " z_spec" in line] == [
        "left out: 2 with a z_spec below 0, such as -0.02 of q2",
        "left out: 1 with a z_spec above 10, such as 12.5 of q7",
        "z_spec: 0.02 to 5",
        "z_spec above 0.4: 1, such as 5 of q8; train uses these only with --z-max",
    ]
    assert len(galaxies) == N - 3
    for factor, example in ((299792.458, 5995.85), (100.0, 11.4737)):
        message = refusal(write(MAGNITUDES.assign(z_spec=MAGNITUDES.z_spec * factor)))
        assert f"most numbers in column 'z_spec' exceed 10, such as {example:g}; expected redshifts" in message
        assert message.endswith("look like velocities or percent: divide velocities in km/s by 299792.458")


def test_a_csv_file_that_is_ecsv_is_not_read_without_its_units(tmp_path):
    Table.from_pandas(MAGNITUDES).write(tmp_path / "cat.csv", format="ascii.ecsv", delimiter=",")
    assert refusal(tmp_path / "cat.csv").endswith("cat.csv is ECSV, which gives units: rename it to .ecsv")
