"""Units as files spell them: the same letters in other case are another unit."""

import subprocess
import sys

import pytest

from photoz.io.units import degrees_per, magnitudes_per, nanomaggies_per, redshifts_per

JY = 1e6 / 3.631  # nanomaggies, AB


@pytest.mark.parametrize(
    ("function", "expected", "units"),
    [
        (
            nanomaggies_per,
            1.0,
            "nanomaggy|nanomaggies|nmgy|nMgy|NANOMAGGY|3.631 uJy|3.631e-6 Jy|3.631e-29 erg/s/cm2/Hz",
        ),
        (nanomaggies_per, 1e9, "maggy|maggies|mgy"),
        (nanomaggies_per, JY, "Jy|JY|jansky|Jy/pixel|Jy / pix|Jy pix-1|Jy per pixel"),
        (nanomaggies_per, 10 * JY, "10Jy|10 Jy"),
        (nanomaggies_per, 1e-3 * JY, "mJy|millijansky|mJy/pix|1e-3 Jy"),
        (nanomaggies_per, 1e6 * JY, "MJy|megajansky|MJy/pixel"),
        (nanomaggies_per, 1e-6 * JY, "uJy|ujy|UJY|microJy|µJy|μJy|microjansky|uJy / pix|1E-6*Jy"),
        (nanomaggies_per, 1e-9 * JY, "nJy|njy|NJY|nanojansky|1e-09 Jy|10**-9 Jy|10**(-9)Jy|10^-9 Jy|10-9 Jy|nJy / pix"),
        (nanomaggies_per, 1e23 * JY, "erg/s/cm2/Hz|erg/s/cm^2/Hz/pixel|erg s-1 cm-2 Hz-1|erg / (Hz s cm2)"),
        (nanomaggies_per, None, "|mjy|MJY|Mjy|mag|mag(AB)|ABmag|counts|adu|K|MJy/sr|Jy/beam|erg/s/cm2/AA|nmgy/arcsec2"),
        (nanomaggies_per, None, "Jy" + 200 * " "),
        (nanomaggies_per, None, "1e-9|0 Jy|Jy (|m Jy"),
        (degrees_per, 1.0, "deg|degree|degrees|DEG"),
        (degrees_per, 57.29577951308232, "rad|Radian"),
        (degrees_per, 15.0, "h|hr|hourangle"),
        (degrees_per, 1 / 3600, "arcsec"),
        (degrees_per, None, "|m|km/s"),
        (magnitudes_per, 1.0, "mag|Mag|mag(AB)|ABmag"),
        (magnitudes_per, 1e-3, "mmag"),
        (magnitudes_per, None, "|Jy|mag(ST)|mag(VEGA)|mag/arcsec2"),
        (redshifts_per, 1.0, "1|-|redshift"),
        (redshifts_per, None, "|km/s|%|mag"),
    ],
)
def test_units_have_the_value_of_their_exact_spelling(function, expected, units):
    for unit in units.split("|"):
        assert (unit, function(unit)) == (unit, expected and pytest.approx(expected, rel=1e-12))


def test_units_with_a_name_need_no_astropy():
    code = (
        "import sys; sys.modules['astropy'] = None; from photoz.io.units import nanomaggies_per as per; "
        "print(per('10**-9 Jy'), per('nmgy'), per('erg/s/cm2/Hz'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(1e-9 * JY), "1.0", "None"]
