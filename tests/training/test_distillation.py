"""Distillation: what a network learns from, and that nothing of a fold reaches the network that judges it."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import TRAIN, Cutouts
from photoz.model.bundle import ModelBundle
from training import distillation
from training.distillation import Teachers
from training.objectives import crps_loss, distilled, objective
from training.settings import Settings
from training.splits import usable_rows

GRID = RedshiftGrid(0.4, 3)


def test_teacher_that_is_certain_of_the_truth_is_another_crps_term() -> None:
    grid, z_spec = SDSS_GRID, np.array([0.1, 0.25])
    pdfs = np.random.default_rng(0).dirichlet(np.ones(grid.n_bins), 2).astype(np.float32)
    certain = np.eye(grid.n_bins)[grid.bin_index(z_spec)]
    truth = objective("crps", grid)
    target = distilled(truth, certain, grid)
    loss = target.loss(keras.ops.convert_to_tensor(target.encode(z_spec)), pdfs)
    plain = truth.loss(keras.ops.convert_to_tensor(truth.encode(z_spec)), pdfs)
    upper_edge = grid.edges[1:][grid.bin_index(z_spec)].astype(np.float32)[:, np.newaxis]
    distance = crps_loss(grid)(keras.ops.convert_to_tensor(upper_edge), pdfs)
    entropy = -np.log(pdfs[np.arange(2), grid.bin_index(z_spec)])
    np.testing.assert_allclose(loss, 0.3 * plain + 0.7 * (100 * distance + 0.3 * entropy), rtol=1e-5)


def test_loss_is_least_for_the_pdf_of_the_teacher() -> None:
    teacher = np.array([[0.2, 0.5, 0.3]])
    target = distilled(objective("crps", GRID), teacher, GRID)
    z_spec = np.array([0.2])

    def loss(pdf: list[float]) -> float:
        alone = keras.ops.convert_to_tensor(target.encode(z_spec))
        with_truth = target.loss(alone, np.array([pdf], np.float32))
        truth = objective("crps", GRID)
        of_truth = truth.loss(alone[:, :1], np.array([pdf], np.float32))
        return float(with_truth[0] - 0.3 * of_truth[0])

    assert loss([0.2, 0.5, 0.3]) < min(loss([0.25, 0.45, 0.3]), loss([0.2, 0.45, 0.35]), loss([0.15, 0.55, 0.3]))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Replace the networks by the rows that they were trained on, and their PDFs by one that says which they are."""
    seen: dict[str, set[int]] = {}

    class Fitted:
        ebv_default = 0.0

        def __init__(self, name: str) -> None:
            self.network = name

    def fit(
        cutouts: Cutouts, spec: object, grid: RedshiftGrid, settings: Settings, run: Path, **options: object
    ) -> Fitted:
        seen[run.name] = set(usable_rows(cutouts, grid, TRAIN).tolist())
        return Fitted(run.name)

    def predict_pdfs(network: str, cutouts: Cutouts, rows: np.ndarray, *rest: object) -> np.ndarray:
        assert not seen[network] & set(rows.tolist())
        return np.eye(3)[[len(seen) - 1] * len(rows)]

    monkeypatch.setattr(distillation, "fit", fit)
    monkeypatch.setattr(distillation, "predict_pdfs", predict_pdfs)
    return seen


def test_teachers_have_not_seen_what_they_judge(seen: dict[str, set[int]], tmp_path: Path) -> None:
    cutouts = Cutouts(np.zeros((9, 4, 4, 1)), {"split": np.array([TRAIN] * 9), "z_spec": np.full(9, 0.1)})
    fold_of = np.array([0, 1, 2] * 3)
    teachers = Teachers(cutouts, fold_of, SDSS_IMAGES, GRID, Settings(folds=3, distill=True), tmp_path, resume=False)
    assert seen == {"teacher-0-1": {2, 5, 8}, "teacher-0-2": {1, 4, 7}, "teacher-1-2": {0, 3, 6}}
    np.testing.assert_allclose(teachers.pdfs()[:3], [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    # Without fold 1, each of the other galaxies is judged by the one teacher that has seen neither.
    np.testing.assert_allclose(teachers.pdfs(unseen=1), np.eye(3)[[0, 2] * 3])


@pytest.mark.slow
def test_distilled_bundle(sample_file: Path, tmp_path: Path, run_cli: Callable[..., str]) -> None:
    arguments = ["train", "--data", sample_file, "--run", tmp_path / "run", "--no-figures", "--only-f32", "--resume"]
    arguments += ["--epochs", 1, "--folds", 3, "--distill", "--bundle", tmp_path / "bundle"]
    run_cli(*arguments)
    card = ModelBundle.load(tmp_path / "bundle").card
    assert card.inputs.ebv_assumed is None
    assert card.training.hyper_parameters["distill"]
    folders = ["fold-0", "fold-1", "fold-2", "teacher-0-1", "teacher-0-2", "teacher-1-2"]
    assert sorted(path.parent.name for path in (tmp_path / "run").glob("*/settings.json")) == folders


def test_distillation_needs_three_folds() -> None:
    with pytest.raises(ValueError, match="distill needs 3 folds or more and one seed; got 2 folds, 1 seeds"):
        Settings(distill=True, folds=2)
