"""`photoz sky` by its redshifts: a network trained on cutouts out of frames, and one on the same galaxies as drawn.

The galaxies of the sample and their neighbours are drawn twice with the same shapes, seeing and sky: as cutouts, as for
the sample, and into frames as SDSS publishes them, out of which `photoz sky` cuts them. Each field is turned by another
angle, and each of its bands is off by another fraction of a pixel. Seeing and sky noise are those of a field. To tell
what comes from the pixels from what comes from the training, the shipped model and a catalogue method see both as well.

    python -m tests.e2e.rendered_frames

takes up to an hour on two idle cores, and 5 GB of temporary files.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from itertools import count, repeat
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from benchmarks.harness.environment import CPUS, RESULTS, SHIPPED
from benchmarks.harness.results import at_most, conclude, reported
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST
from photoz.io.hdf5 import create_hdf5, write_columns
from photoz.io.reader import open_cutouts
from photoz.metrics import galaxy_scores
from photoz.model.bundle import ModelBundle
from photoz.processes import process_pool
from photoz_client.cli import photoz
from photoz_client.comparison import metric_pairs
from training.baselines import baseline_scores
from training.catalogue import read_kcorrect
from training.cli import main as training
from training.galaxies import Galaxies, draw_galaxies, draw_neighbours
from training.photometry import gaussian_aperture, measure
from training.pixel_statistics import REFERENCE_SIGMA, sky_noise
from training.render import render
from training.sky import Sky, add_sky, draw_sky
from training.splits import usable_rows
from training.trained_model import TrainedModel

SHAPE = (1489, 2048)  # of a frame
RUN, RERUN, CAMCOL = 94, 301, 3

# Cutouts in a frame are on a grid of this spacing, each moved at random by up to JITTER pixels along both axes. STAMP
# holds a cutout in any rotation, and no two stamps overlap.
SPACING, JITTER, STAMP = 120, 8, 96
GRID = (SHAPE[0] // SPACING, SHAPE[1] // SPACING)
PER_FIELD = GRID[0] * GRID[1]

BY_BAND = ("fluxes", "fwhm", "psf_sigma_ratio", "psf_amplitude_ratio")  # columns of objects
APERTURES = "local linear regression, aperture fluxes of the cutouts"
N_PIXELS = 1000  # cutouts whose pixels are compared


def draw(catalogue, folder, seed=0):
    """Draw galaxies as cutouts, `drawn.h5`, and into frames, out of which `photoz sky` cuts them, `cut.h5`."""
    (folder / "frames").mkdir()
    n, rows = len(catalogue), np.arange(len(catalogue))
    fields = [catalogue.take(some) for some in np.split(rows, range(PER_FIELD, n, PER_FIELD))]
    streams = np.random.SeedSequence(seed).spawn(len(fields))
    with process_pool(CPUS) as pool:
        drawn = pool.map(_draw_field, list(zip(fields, streams, repeat(folder), count()))).result()
    cutouts, centres = zip(*drawn, strict=True)
    columns = {name: getattr(catalogue, name) for name in ("object_id", "ebv", "z_spec", "split")}
    columns["ra"], columns["dec"] = np.concatenate(centres, axis=1)
    with create_hdf5(folder / "drawn.h5", n, SDSS_IMAGES, catalogue.provenance) as file:
        file["images"][:] = np.concatenate(cutouts)
        write_columns(file, columns | {"magnitudes": catalogue.magnitudes})
    columns |= {"run": np.full(n, RUN), "rerun": np.full(n, RERUN), "camcol": np.full(n, CAMCOL)}
    Table(columns | {"field": rows // PER_FIELD}).write(folder / "list.csv")
    where = ("--cache", folder / "frames", "--offline", "--workers", CPUS)
    run(photoz, "sky", "--list", folder / "list.csv", "-o", folder / "cut.h5", *where)


def _draw_field(task):
    """Write the frames of a field; return its drawn cutouts (n, 64, 64, 5) and their positions (2, n)."""
    catalogue, stream, folder, number = task
    rng = np.random.default_rng(stream)
    centres, cutout, objects, header = _make_field(catalogue, rng)
    sky = draw_sky(1, SDSS_IMAGES, rng)
    for index, band in enumerate(SDSS_IMAGES.bands):
        frame, spec = header.copy(), ImageSpec(STAMP, (band,))
        for axis in ("CRPIX1", "CRPIX2"):
            frame[axis] += rng.uniform(-0.5, 0.5)
        of_band = {name: getattr(objects, name)[:, [index]] for name in BY_BAND}
        corners, turned = _in_frame(centres, cutout, replace(objects, **of_band), WCS(frame))
        pixels = np.zeros((1, *SHAPE, 1), np.float32)
        for (x, y), stamp in zip(corners, _stamps(len(centres), cutout, turned, spec), strict=True):
            pixels[0, y : y + STAMP, x : x + STAMP] += stamp
        frame.update({"RUN": RUN, "RERUN": str(RERUN), "CAMCOL": CAMCOL, "FRAME": number, "FILTER": band})
        path = folder / "frames" / f"{RERUN}-frame-{band}-{RUN:06d}-{CAMCOL}-{number:04d}.fits"
        fits.PrimaryHDU(add_sky(pixels, _repeat(sky, 1, [index]), rng)[0, ..., 0], frame).writeto(path)
    stamps = _stamps(len(centres), cutout, objects, SDSS_IMAGES)
    cutouts = add_sky(stamps, _repeat(sky, len(stamps), range(len(SDSS_IMAGES.bands))), rng)
    return cutouts, np.stack([centres.ra.deg, centres.dec.deg])


def _make_field(catalogue, rng):
    """Draw objects under the conditions of one field, whose first galaxy is where it is in the catalogue.

    Returns the centres of the n cutouts on the sky; the cutout of each object (m,), first those in the centres, then
    their neighbours; the m objects; and the header of the frames, which differ by fractions of a pixel.
    """
    galaxies = draw_galaxies(catalogue.fluxes, SDSS_IMAGES, rng)
    galaxies = replace(galaxies, fwhm=np.broadcast_to(galaxies.fwhm[0], galaxies.fwhm.shape))
    rows, neighbours = draw_neighbours(galaxies, SDSS_IMAGES, rng)
    both = {name: np.concatenate([value, getattr(neighbours, name)]) for name, value in vars(galaxies).items()}
    angle = rng.uniform(0.0, 2.0 * np.pi)
    c, s = SDSS_IMAGES.pixel_scale / 3600 * np.array([np.cos(angle), np.sin(angle)])
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1025.0, "CRPIX2": 745.0})
    header.update({"CRVAL1": float(catalogue.ra[0]), "CRVAL2": float(catalogue.dec[0]), "BUNIT": "nanomaggy"})
    header.update({"CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c})  # mirrored as SDSS's are
    y, x = np.unravel_index(np.arange(len(catalogue)), GRID)
    places = SPACING * (np.stack([x, y]) + 0.5) + rng.uniform(-JITTER, JITTER, (2, len(x)))
    margin = (np.array(SHAPE[::-1]) - SPACING * np.array(GRID[::-1])) / 2
    centres = SkyCoord(*WCS(header).wcs_pix2world(*(places + margin[:, None]), 0), unit="deg")
    return centres, np.concatenate([np.arange(len(galaxies)), rows]), Galaxies(**both), header


def _in_frame(centres, cutout, objects, wcs):
    """Return the lower left pixel (n, 2) of a stamp around each cutout, and the objects as they are in these stamps.

    In cutouts north is up and east is left; where that is in a frame follows from two points of each object on the sky,
    its centre and a place one pixel away along its major axis.
    """
    angle = objects.position_angle
    steps = np.stack([np.zeros((len(objects), 2)), np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    x, y = np.moveaxis(objects.offset + steps, -1, 0) * SDSS_IMAGES.pixel_scale * u.arcsec
    places = centres[cutout].spherical_offsets_by(-x, y)
    centre, tip = np.stack(wcs.wcs_world2pix(places.ra.deg, places.dec.deg, 0), axis=-1)
    middle = np.stack(wcs.wcs_world2pix(centres.ra.deg, centres.dec.deg, 0), axis=-1)
    corners = np.rint(middle - (STAMP - 1) / 2).astype(int)
    offset = centre - corners[cutout] - (STAMP - 1) / 2
    return corners, replace(objects, offset=offset, position_angle=np.arctan2(*(tip - centre).T[::-1]))


def _stamps(n, cutout, objects, spec):
    """Draw the objects of n cutouts without noise, (n, size, size, n_bands)."""
    stamps = np.zeros((n, *spec.shape), np.float32)
    np.add.at(stamps, cutout, render(objects, spec))
    return stamps


def _repeat(sky, n, bands):
    """Return the sky of one field in some bands of n images, none of which is resampled."""
    by_band = (getattr(sky, name)[:, bands].repeat(n, axis=0) for name in ("sky_sigma", "sky_left_in", "electrons"))
    return Sky(*by_band, is_resampled=np.zeros(n, bool))


def run(program, *words):
    program.main([str(word) for word in words], standalone_mode=False)


def train(data, bundle, *options):
    """Train on the cutouts of a file; return the bundle."""
    where = ("--data", data, "--bundle", bundle, "--run", bundle.with_suffix(".run"))
    run(training, "train", *where, "--no-figures", "--only-f32", *options)
    return ModelBundle.load(bundle)


def predict(bundle, data):
    """Score a model on the test galaxies of a file."""
    with open_cutouts(data) as cutouts:
        rows = usable_rows(cutouts, bundle.card.grid, TEST)
        pdfs = TrainedModel.load(bundle).predict(cutouts, rows).pdfs
        return galaxy_scores(pdfs, cutouts.column("z_spec")[rows], bundle.card.grid)


def compare(folder, drawn, cut):
    """Compare a model on drawn cutouts, a, with one on those out of frames, b, on the test galaxies.

    The ratio is that of b's metric to a's, with its bootstrap error on the same galaxies.
    """
    pairs = metric_pairs(predict(drawn, folder / "drawn.h5"), predict(cut, folder / "cut.h5"))
    return {
        name: {**asdict(pair), "ratio": (pair.b.value / pair.a.value, pair.worsening.error / pair.a.value)}
        for name, pair in pairs.items()
    }


def measure_cutouts(folder):
    """Measure noise and fluxes by band, and a catalogue method's errors, of cutouts out of frames over drawn ones."""
    weight, measured = gaussian_aperture(SDSS_IMAGES.size, REFERENCE_SIGMA * SDSS_IMAGES.size), []
    for kind in ("drawn", "cut"):
        with open_cutouts(folder / f"{kind}.h5") as cutouts:
            images = cutouts.images[:N_PIXELS]
            scores = baseline_scores(cutouts, SDSS_IMAGES, SDSS_GRID, cutouts.column("ebv"))
        measured.append((sky_noise(images), measure(images, weight), scores[APERTURES]["sigma_mad"].value))
    noise, fluxes, sigma = (cut / drawn for drawn, cut in zip(*measured, strict=True))
    return {"noise of a pixel": noise.tolist(), "flux": np.median(fluxes, axis=0).tolist(), APERTURES: sigma}


def main():
    """Draw, cut, train and compare; write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    options = argparse.Namespace(program="rendered_frames", output=RESULTS / "rendered-frames.json")
    parser.parse_args(namespace=options)
    with tempfile.TemporaryDirectory() as name:
        folder, shipped = Path(name), ModelBundle.load(SHIPPED)
        draw(read_kcorrect(), folder)
        models = {"shipped": compare(folder, shipped, shipped)}
        for seed in range(options.seeds):
            recipe = ("--seed", seed, "--epochs", options.epochs)
            bundles = (train(folder / f"{kind}.h5", folder / kind, *recipe) for kind in ("drawn", "cut"))
            models[f"seed {seed}"] = compare(folder, *bundles)
        measured = measure_cutouts(folder)
    shipped, *trained = (model["sigma_mad"]["ratio"][0] for model in models.values())
    results = [
        reported("sigma_mad of cutouts out of frames, of that of drawn ones", trained),
        at_most("the farthest of these from 1, percent", max(100 * abs(ratio - 1) for ratio in trained), 10),
        reported("the ratio for the shipped model", shipped),
        reported(f"the ratio for {APERTURES}", measured[APERTURES]),
    ]
    return conclude(options, results, {"models": models, "cut, of drawn": measured})


if __name__ == "__main__":
    sys.exit(main())
