"""Our stage in a pipeline of RAIL, beside RAIL's own evaluators."""

import os
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import h5py
import numpy as np
import pytest
import qp

from photoz import metrics
from photoz.errors import InvalidBundle, InvalidEbv, InvalidImages, InvalidInput
from photoz.inference.predictor import Predictor
from tests.survey.conftest import ENVIRONMENT
from tests.toys import GRID_90, GRIZ, galaxies, toy_batch

N = 100  # as many as the quantiles of RAIL's PIT metric, which are then the PIT values themselves
IMAGES = galaxies(GRIZ, N, seed=2)
TABLE = {
    "image": IMAGES.reshape(N, -1),
    "ebv": np.where(np.arange(N) % 10, np.linspace(0, 0.2, N), np.nan),
    "object_id": np.array([f"galaxy {row}" for row in range(N)], "S"),
    "redshift": np.linspace(0.0003, 0.5998, N),
}


class CatEstimator:
    """A stand-in for the base class of RAIL's stages; `output` is what was written."""

    config_options = {}
    config = SimpleNamespace(id_col="object_id", redshift_col="redshift")
    get_module = classmethod(lambda cls: cls.__module__)
    generate_command = classmethod(lambda cls, *options: f"python3 -m photoz_survey PhotozEstimator {options}")

    def _do_chunk_output(self, *chunk, data):
        self.output.append(chunk)


@pytest.fixture
def stage(bundle, monkeypatch):
    """Our stage on a stand-in for RAIL, with the model open."""
    core = MagicMock(DataHandle=SimpleNamespace)
    for name in ("core.common_params", "core.data", "core.enums"):
        monkeypatch.setitem(sys.modules, f"rail.{name}", core)
    monkeypatch.setitem(sys.modules, "rail.estimation.estimator", SimpleNamespace(CatEstimator=CatEstimator))
    monkeypatch.delitem(sys.modules, "photoz_survey.rail", raising=False)
    from photoz_survey.rail import PhotozEstimator

    core.SharedParams.copy_param.return_value.set_default.assert_called_once_with(256)
    assert PhotozEstimator.default_distribution_type() is core.DistributionType.posterior
    assert PhotozEstimator.generate_command("-x") == "python3 -m ceci photoz_survey.rail.PhotozEstimator ('-x',)"
    stage = PhotozEstimator()
    stage.output = []
    assert stage.open_model(model=SimpleNamespace(path=bundle.path)).card == bundle.card
    yield stage
    del sys.modules["photoz_survey.rail"]


def test_chunks_are_those_of_the_predictor(stage, bundle):
    expected = Predictor.load(bundle).predict(toy_batch(IMAGES[30:60], bundle.card, TABLE["ebv"][30:60]))
    stage._process_chunk(30, 60, {name: values[30:60] for name, values in TABLE.items()}, False)
    stage._process_chunk(30, 60, {"image": TABLE["image"][30:60]}, True)
    (found, *place), (without, *place_without) = stage.output
    assert (place, place_without) == ([30, 60, False], [30, 60, True])
    np.testing.assert_allclose(found.objdata["pdfs"] * GRID_90.width, expected.pdf, rtol=1e-6)
    np.testing.assert_array_equal(found.ancil["object_id"], TABLE["object_id"][30:60])
    np.testing.assert_array_equal(without.ancil["object_id"], np.arange(30, 60))
    assert set(without.ancil["flags"] & 1) == {1}  # E(B-V) is assumed


def image_with(value):
    return {"image": np.where(np.arange(N)[:, None] == 7, np.float32(value), TABLE["image"])}


SHAPE = "shape (100, 2116), cutouts of 23x23 pixels with the bands g,r,i,z last, each flattened; got (100, 2115)"


def test_what_cannot_be_used_is_refused(stage, tmp_path):
    for changes, error, message in [
        (image_with(np.nan), InvalidImages, "cutout 7 has no finite pixel; expected some signal in each cutout"),
        (image_with(3e38), InvalidImages, "NaN for galaxy 7: its pixel values overflow the network; mask such"),
        ({"ebv": TABLE["redshift"] - 0.1}, InvalidEbv, "expected 0 <= ebv <= 10 mag, got -0.0997 for cutout 0"),
        ({"image": TABLE["image"][:, 1:]}, InvalidImages, f"expected a column `image` of {SHAPE}"),
        ({"image": None}, InvalidImages, "expected a column `image` of flattened cutouts; there are ebv, object_id"),
        (
            {"object_id": np.full(N, "a", object)},
            InvalidInput,
            "expected the column `object_id` as numbers or as text of",
        ),
    ]:
        table = {name: values for name, values in (TABLE | changes).items() if values is not None}
        with pytest.raises(error) as caught:
            stage._process_chunk(60, 60 + N, table, True)
        assert str(caught.value).startswith(f"rows 60 to 159 of the input: {message}")
    (tmp_path / "model.pkl").write_bytes(b"csys\nexit\n(tR.")  # raises SystemExit when it is unpickled
    with pytest.raises(InvalidBundle, match=r"model\.pkl"):
        stage.open_model(model=str(tmp_path / "model.pkl"))


@pytest.mark.acceptance
def test_metrics_of_a_pipeline_are_ours(bundle, tmp_path, monkeypatch):
    """A pipeline as its users run it: from the file that it was saved to, each stage in a process of its own."""
    pytest.importorskip("rail.estimation.estimator", reason="needs RAIL: pip install 'photoz[rail]'")
    from ceci import Pipeline
    from rail.core.stage import RailPipeline
    from rail.evaluation.dist_to_point_evaluator import DistToPointEvaluator
    from rail.evaluation.point_to_point_evaluator import PointToPointEvaluator

    from photoz_survey.rail import PhotozEstimator

    table, pipeline, edges = tmp_path / "cutouts.hdf5", RailPipeline(), GRID_90.edges
    with h5py.File(table, "w") as file:
        file.update({f"photometry/{name}": values for name, values in TABLE.items()})
    pipeline.estimate = PhotozEstimator.build(chunk_size=30)
    estimates = {"connections": {"input": pipeline.estimate.io.output}, "force_exact": True}
    ends = np.sort(np.concatenate([edges[:-1] + 1e-10, edges[1:] - 1e-10]))  # trapezoids are boxes between these
    grid = {"cdeloss": {"eval_grid": ends.tolist()}}
    pipeline.pdfs = DistToPointEvaluator.build(metrics=["cdeloss", "pit"], metric_config=grid, **estimates)
    sigma = {"metrics": ["point_stats_sigma_mad"], "point_estimate_key": "z_mean"}
    pipeline.points = PointToPointEvaluator.build(**sigma, **estimates)
    inputs = {"model": str(bundle.path), "input": str(table), "truth": str(table)}
    pipeline.initialize(inputs, {"output_dir": str(tmp_path), "log_dir": str(tmp_path), "resume": False}, None)
    pipeline.save(str(tmp_path / "pipeline.yaml"))
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    assert Pipeline.read(str(tmp_path / "pipeline.yaml")).run() == 0
    found = qp.read(str(tmp_path / "output_estimate.hdf5")).ancil
    expected = Predictor.load(bundle).predict(toy_batch(IMAGES, bundle.card, TABLE["ebv"]))
    np.testing.assert_allclose(found["z_mean"], expected.z_mean, rtol=1e-6)
    assert found["object_id"].tolist() == TABLE["object_id"].astype(str).tolist()
    assert (found["redshift"].tolist(), set(found["distribution_type"])) == (TABLE["redshift"].tolist(), {1})
    scores = metrics.galaxy_scores(expected.pdf, TABLE["redshift"], GRID_90)
    with h5py.File(tmp_path / "summary_pdfs.hdf5") as pdfs, h5py.File(tmp_path / "summary_points.hdf5") as points:
        assert pdfs["cdeloss"][0] == pytest.approx(scores.cde_loss.mean(), rel=1e-6)
        assert points["point_stats_sigma_mad"][0] == pytest.approx(metrics.sigma_mad(scores.dz), rel=1e-6)
    pit = qp.read_dict(str(tmp_path / "single_distribution_summary_pdfs.hdf5"))["pit"].objdata["locs"]
    assert metrics.uniform_ks(np.ravel(pit)) == pytest.approx(metrics.uniform_ks(scores.pit), abs=1e-6)
