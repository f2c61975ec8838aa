"""Every layout is read right, or refused in words that say why: never wrong in silence."""

import re
import warnings

import numpy as np
import pytest

from photoz.errors import PhotozError
from photoz.images import SDSS_IMAGES, Batch
from photoz.inference.predictor import Predictor
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from tests.layouts import arrays, bands, columns, fits_kinds, fits_numbers, fits_sky, fits_tables, fits_units, folders
from tests.layouts.galaxies import EBV, IMAGES, N

GROUPS = (fits_units, fits_sky, fits_kinds, fits_numbers, fits_tables, bands, columns, arrays, folders)
LAYOUTS = {
    f"{group.__name__.rpartition('.')[2]}: {name}": layout for group in GROUPS for name, layout in group.LAYOUTS.items()
}
QUICK = set(list(LAYOUTS)[::20])  # the others are for `make acceptance`
Z_TOLERANCE = 0.004
TENTH_OF_NOISE = np.array([4e-3, 2e-3, 3e-3, 4e-3, 15e-3])  # nanomaggies, by band: what lossy compression may change
COLUMNS = {"rtol": 1e-6, "atol": 1e-4}  # 1e-4 degrees are 0.4 arcsec, a pixel
# One of these says what to do.
ADVICE = (
    r"expected|\b(give|name|rename|remove|add|set|write|resample|convert|divide|multiply|move|state|say|pass|use|keep|"
    r"split|choose|correct|crop|make)\b|--\w"
)


@pytest.fixture(scope="module")
def z_of(bundle_path):
    """Return a function from images of the first galaxies to their median redshifts."""
    predictor = Predictor.load(ModelBundle.load(bundle_path))
    return lambda images, ebv: predictor.predict(Batch.of(images, SDSS_IMAGES, ebv)).z_median


def read(path, spec):
    """Return images, columns, and what was used, assumed and left out; or the words of the refusal."""
    try:
        with open_cutouts(path) as opened:
            cutouts, reading = conform(opened, spec)
            kinds = ("used", "assumed", "left_out")
            said = {kind: " | ".join(getattr(reading, kind, reading)) for kind in kinds}  # a tuple holds all three
            return np.asarray(cutouts.images[:]), dict(cutouts.columns), said
    except PhotozError as error:
        return str(error)


def check_refusal(message, layout):
    assert layout.refused, f"refused: {message}"
    words = (*layout.refused, re.escape(layout.file) if "." in layout.file else r"mine|\.(fits|npz|npy)")
    missing = [word for word in words if not re.search(word, message, re.IGNORECASE)]
    assert not missing, f"no {missing} in: {message}"
    assert re.search(ADVICE, message, re.IGNORECASE), f"nothing to do in: {message}"


def check_columns(values, layout):
    named = [str(name) for name in values.get("object_id", ()) if str(name)]
    assert len(set(named)) == len(named), f"expected distinct ids, got {named}"
    for name in layout.absent:
        assert name not in values, f"{name} is {values[name]}"
    for name, expected in layout.columns.items():
        assert name in values, f"no column {name} in {sorted(values)}"
        if name == "object_id":
            assert [str(value) for value in values[name]] == [str(value) for value in expected[: layout.n]]
        else:
            np.testing.assert_allclose(values[name], expected[: layout.n], **COLUMNS, err_msg=name)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.acceptance) for name in LAYOUTS]
)
def test_layout(tmp_path_factory, name, z_of, card):
    layout = LAYOUTS[name]
    path = tmp_path_factory.mktemp("layout") / layout.file
    with warnings.catch_warnings(action="ignore"):  # of astropy, about headers that it would not write
        layout.write(path)
    outcome = read(path / layout.pattern, card.image)
    if isinstance(outcome, str):
        check_refusal(outcome.replace(str(path.parent), ""), layout)
        return
    images, values, said = outcome
    assert layout.or_right or not layout.refused, f"read, though {layout.refused}; said: {said}"
    expected = layout.images[: layout.n]
    assert images.shape == expected.shape
    check_columns(values, layout)
    np.testing.assert_array_equal(np.isnan(images), np.isnan(expected))
    excess = np.nan_to_num(np.abs(images - expected) - TENTH_OF_NOISE - 2e-3 * np.abs(expected))
    assert excess.max() <= 0, f"pixels differ by up to {excess.max():.3g} nanomaggies too much"
    rows = np.isfinite(expected).any(axis=(1, 2, 3))  # a cutout of NaN has no redshift
    z = z_of(images[rows], np.asarray(values.get("ebv", EBV[: layout.n]))[rows])
    assert np.abs(z - z_of(expected[rows], EBV[: layout.n][rows])).max() <= Z_TOLERANCE
    for kind, words in layout.said.items():
        assert re.search(words, said[kind], re.IGNORECASE), f"no {words!r} in what was {kind}: {said}"


def test_there_are_400_layouts_and_their_galaxies_differ(z_of):
    assert len(LAYOUTS) >= 400
    z = np.sort(z_of(IMAGES, EBV))
    assert len(z) == N
    assert np.diff(z).min() > 5 * Z_TOLERANCE
