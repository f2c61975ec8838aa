"""Our stage in a pipeline of RAIL, beside RAIL's own evaluators."""

import os
import sys

import h5py
import numpy as np
import pytest
import qp

pytest.importorskip("rail.estimation.estimator", reason="needs RAIL: pip install 'photoz[rail]'")

from ceci import Pipeline
from rail.core.stage import RailPipeline
from rail.evaluation.dist_to_point_evaluator import DistToPointEvaluator
from rail.evaluation.point_to_point_evaluator import PointToPointEvaluator

from photoz import metrics
from photoz.errors import InvalidBundle, InvalidEbv, InvalidImages, InvalidInput
from photoz.inference.predictor import Predictor
from photoz_survey.rail import PhotozEstimator
from tests.running import ROOT
from tests.toys import GRID_90, GRIZ, galaxies, toy_batch

N = 100  # as many as the quantiles of RAIL's PIT metric, which are then the PIT values themselves
IMAGES = galaxies(GRIZ, N, seed=2)
TABLE = {
    "image": IMAGES.reshape(N, -1),
    "ebv": np.where(np.arange(N) % 10, np.linspace(0, 0.2, N), np.nan),
    "object_id": np.array([f"galaxy {row}" for row in range(N)], "S"),
    "redshift": np.linspace(0.0003, 0.5998, N),
}


@pytest.fixture
def expected(bundle):
    return Predictor.load(bundle).predict(toy_batch(IMAGES, bundle.card, TABLE["ebv"]))


@pytest.fixture
def table(tmp_path):
    """Return the path of the table of cutouts."""
    with h5py.File(tmp_path / "cutouts.hdf5", "w") as file:
        for name, values in TABLE.items():
            file[f"photometry/{name}"] = values
    return tmp_path / "cutouts.hdf5"


@pytest.fixture
def estimate(bundle, tmp_path, monkeypatch):
    """Return a function that runs the stage alone, on a table in memory or in a file."""
    monkeypatch.chdir(tmp_path)

    def estimate(table, model=bundle.path, **config):
        stage = PhotozEstimator.make_stage(name="photoz", model=str(model), **config)
        if not isinstance(table, dict):
            table = stage.get_handle("input", path=str(table), allow_missing=True)
        return stage.estimate(table).data

    return estimate


def run(pipeline, folder, **inputs):
    """Run a pipeline as its users do: from the file that it was saved to, each stage in a process of its own."""
    places = {"output_dir": str(folder), "log_dir": str(folder), "resume": False}
    pipeline.initialize({name: str(path) for name, path in inputs.items()}, places, None)
    pipeline.save(str(folder / "pipeline.yaml"))
    pipeline = Pipeline.read(str(folder / "pipeline.yaml"))
    pipeline.launcher_config["interval"] = 0.1
    assert pipeline.run() == 0, "\n".join(path.read_text() for path in folder.glob("*.out"))


@pytest.mark.slow
def test_metrics_of_a_pipeline_are_ours(bundle, expected, table, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "clients/python")]))
    edges = GRID_90.edges
    ends = np.sort(np.concatenate([edges[:-1] + 1e-10, edges[1:] - 1e-10]))  # trapezoids are boxes between these
    pipeline = RailPipeline()
    pipeline.estimate = PhotozEstimator.build(chunk_size=30)
    pipeline.pdfs = DistToPointEvaluator.build(
        connections={"input": pipeline.estimate.io.output},
        metrics=["cdeloss", "pit"],
        metric_config={"cdeloss": {"eval_grid": ends.tolist()}},
        force_exact=True,
    )
    pipeline.points = PointToPointEvaluator.build(
        connections={"input": pipeline.estimate.io.output},
        metrics=["point_stats_sigma_mad"],
        point_estimate_key="z_mean",
        force_exact=True,
    )
    run(pipeline, tmp_path, model=bundle.path, input=table, truth=table)
    scores = metrics.galaxy_scores(expected.pdf, TABLE["redshift"], GRID_90)
    with h5py.File(tmp_path / "summary_pdfs.hdf5") as file:
        assert file["cdeloss"][0] == pytest.approx(scores.cde_loss.mean(), rel=1e-6)
    with h5py.File(tmp_path / "summary_points.hdf5") as file:
        assert file["point_stats_sigma_mad"][0] == pytest.approx(metrics.sigma_mad(scores.dz), rel=1e-6)
    pit = qp.read_dict(str(tmp_path / "single_distribution_summary_pdfs.hdf5"))["pit"].objdata["locs"]
    assert metrics.uniform_ks(np.ravel(pit)) == pytest.approx(metrics.uniform_ks(scores.pit), abs=1e-6)


@pytest.mark.parametrize("chunk_size", [N, 30, N - 1])
def test_pdfs_and_columns_are_those_of_the_predictor(estimate, expected, table, tmp_path, chunk_size):
    estimate(table, chunk_size=chunk_size)
    found = qp.read(str(tmp_path / "output_photoz.hdf5"))
    np.testing.assert_array_equal(found.metadata["bins"].ravel(), GRID_90.edges)
    np.testing.assert_allclose(found.objdata["pdfs"] * GRID_90.width, expected.pdf, rtol=1e-6)
    for name, values in expected.columns():
        if name not in ("object_id", "pdf"):
            np.testing.assert_allclose(found.ancil[name], values, rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found.ancil["object_id"], TABLE["object_id"].astype(str))
    np.testing.assert_array_equal(found.ancil["redshift"], TABLE["redshift"])
    assert set(found.ancil["distribution_type"]) == {1}


def test_only_the_images_are_needed(estimate, bundle, table):
    with h5py.File(table, "r+") as file:
        for name in ("ebv", "object_id", "redshift"):
            del file["photometry"][name]
    found = estimate(table, chunk_size=30)
    expected = Predictor.load(bundle).predict(toy_batch(IMAGES, bundle.card))
    np.testing.assert_allclose(found.objdata["pdfs"] * GRID_90.width, expected.pdf, rtol=1e-6)
    np.testing.assert_array_equal(found.ancil["object_id"], np.arange(N))


def test_summaries_of_rail(estimate, expected, table):
    found = estimate(table, chunk_size=30, calc_summary_stats=True).ancil
    for name in ("z_mean", "z_median", "z_mode"):
        np.testing.assert_allclose(np.ravel(found[name]), getattr(expected, name), atol=1e-6)
    assert {"z_q2p5", "z_q16", "z_q84", "z_97p5"} <= found.keys()


def with_row(name, value):
    values = TABLE[name].copy()
    values[7] = value
    return TABLE | {name: values}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (with_row("image", np.nan), InvalidImages, "cutout 7 has no finite pixel; expected some signal in each cutout"),
        (with_row("image", 3e38), InvalidImages, "NaN for galaxy 7: its pixel values overflow the network; mask such"),
        (with_row("ebv", -1), InvalidEbv, "expected 0 <= ebv <= 10 mag, got -1 for cutout 7"),
        (
            TABLE | {"image": TABLE["image"][:, 1:]},
            InvalidImages,
            "expected a column `image` of shape (100, 2116), cutouts of 23x23 pixels with the bands g,r,i,z last, each "
            "flattened; got (100, 2115)",
        ),
        ({"ebv": TABLE["ebv"]}, InvalidImages, "expected a column `image` of flattened cutouts; there are ebv"),
        (
            TABLE | {"object_id": TABLE["object_id"].astype(object)},
            InvalidInput,
            "expected the column `object_id` as numbers or as text of a fixed length (numpy dtype S), got object",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(estimate, table, error, message):
    with pytest.raises(error) as caught:
        estimate(table, hdf5_groupname="")
    assert str(caught.value).startswith(f"rows 0 to 99 of the input: {message}")


def test_rows_of_later_chunks_are_counted_from_the_first(estimate, table):
    with h5py.File(table, "r+") as file:
        file["photometry/image"][67] = np.nan
    with pytest.raises(InvalidImages, match="rows 60 to 89 of the input: cutout 7 has no finite pixel"):
        estimate(table, chunk_size=30)


def test_a_file_that_is_no_bundle_is_not_unpickled(estimate, tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"csys\nexit\n(tR.")  # raises SystemExit when it is unpickled
    with pytest.raises(InvalidBundle, match=r"model\.pkl"):
        estimate(TABLE, model="model.pkl", hdf5_groupname="")
