"""Read the frames of archives, out of which galaxies are cut by `photoz.io.frame`."""

import warnings
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from photoz.io.frame import Frame
from photoz_survey.sky.astrometry import astrometry


def read_frame(file: BinaryIO) -> Frame:
    """Read the first image of a FITS file, as SDSS writes it, with the astrometry of its fourth HDU if it has one.

    Raises `OSError` if the file is damaged, `InvalidDataset` as `astrometry`.
    """
    with fits.open(file, memmap=False) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # SDSS's headers have outdated keywords
        pixels, wcs = np.asarray(hdus[0].data, np.float32), WCS(hdus[0].header)
        return Frame(pixels, astrometry(wcs, hdus[3].data[0], pixels.shape) if len(hdus) > 3 else wcs)
