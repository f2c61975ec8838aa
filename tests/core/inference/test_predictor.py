import numpy as np
import pytest

from photoz import calibration, ood
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, InvalidImages
from photoz.estimates import COLUMNS
from photoz.flags import Flag, flag_inputs, flag_pdfs, flag_range
from photoz.inference import engines
from photoz.inference.engines import BATCH_SIZES
from photoz.inference.predictor import Predictor
from photoz.inference.reading import BATCH_ROWS, read_batch, read_batches
from photoz.io.cutouts import Cutouts
from tests.toys import GRIZ, galaxies, toy_batch, toy_calibration, toy_feature_groups, toy_network, toy_ood_record

N = BATCH_ROWS + 44
CUTOUTS = galaxies(GRIZ, 40)
TRAINED = galaxies(GRIZ, 400, seed=1)


def predict(bundle, cutouts=CUTOUTS, **options):
    return Predictor.load(bundle, **options).predict(toy_batch(cutouts, bundle.card))


def test_pdfs_are_recalibrated_unless_it_is_switched_off_and_a_nan_changes_no_other(make_toy_bundle):
    bundle = make_toy_bundle(calibration=toy_calibration(temperature=1.5, a=1.1))
    raw = predict(bundle, recalibrate=False).pdf
    np.testing.assert_array_equal(raw, predict(make_toy_bundle()).pdf)
    recalibrated = predict(bundle).pdf
    np.testing.assert_array_equal(recalibrated, calibration.apply(raw, Calibration(1.5, 1.1)))
    assert np.abs(recalibrated - raw).max() > 1e-4
    overflowing = CUTOUTS.copy()
    overflowing[3] = 3e38
    predictor, batch = Predictor.load(bundle), toy_batch(overflowing, bundle.card)
    columns, expected = predictor.summarise(batch, predictor.run_network(batch)), predict(bundle)
    assert np.isnan(columns["pdf"][3]).all()
    assert columns.keys() == {*COLUMNS, "pdf"} - {"object_id"}
    for name, values in columns.items():
        np.testing.assert_array_equal(np.delete(values, 3, axis=0), np.delete(getattr(expected, name), 3, axis=0))
    with pytest.raises(
        InvalidImages, match="^NaN for galaxy 3: its pixel values overflow the network; mask such pixels"
    ):
        predictor.predict(batch)
    for wanted, more in (({"z_mode", "flags"}, {"ood_score"}), ({"ood_score"}, set()), ({"z_std"}, set())):
        columns = predictor.summarise(batch, predictor.run_network(batch), frozenset(wanted))
        assert columns.keys() == wanted | more | {"pdf"}


def test_flags_are_joined_and_the_network_runs_when_it_is_loaded(make_toy_bundle, monkeypatch):
    bundle = make_toy_bundle(takes_ebv=True)
    batch, estimates = toy_batch(CUTOUTS, bundle.card), predict(bundle)
    assert np.isnan(estimates.ood_score).all()
    assert estimates.object_id.tolist() == list(range(40))
    grid = bundle.card.grid
    expected = flag_pdfs(estimates.pdf, grid, estimates.z_hi68 - estimates.z_lo68)
    expected |= flag_inputs(batch) | flag_range(estimates.pdf, grid, (0.0, 0.7))
    np.testing.assert_array_equal(estimates.flags, expected)
    assert (estimates.flags & Flag.EBV_ASSUMED).all()
    assert not (predict(make_toy_bundle()).flags & Flag.EBV_ASSUMED).any()  # it takes none, so none is assumed
    predictor = Predictor(Predictor.load(bundle).engine, grid, z_range=(0.2, 0.3))
    expected = flag_range(estimates.pdf, grid, (0.2, 0.3)) & Flag.BEYOND_TRAINING
    np.testing.assert_array_equal(predictor.predict(batch).flags & Flag.BEYOND_TRAINING, expected)
    assert expected.any()
    seen, predict_batch = [], engines.OpenVinoEngine.predict

    def record(self, *feed):
        seen.append(len(feed[0]))
        return predict_batch(self, *feed)

    monkeypatch.setattr(engines.OpenVinoEngine, "predict", record)
    for options in ({}, {"warm_up": True}):
        Predictor.load(make_toy_bundle(), **options)
    assert seen == [1, *BATCH_SIZES]


@pytest.mark.parametrize("n_features", [0, 4])
def test_score_separates_training_cutouts_from_others(make_toy_bundle, n_features):
    groups, gives_features = toy_feature_groups(TRAINED, with_features=bool(n_features)), bool(n_features)
    network = toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=gives_features)
    bundle = make_toy_bundle(network=network, feature_groups=groups, record=toy_ood_record(n_features))
    inside, outside = predict(bundle), predict(bundle, 10 * CUTOUTS)
    expected = ood.score(groups, ood.extract_features(CUTOUTS, CUTOUTS.mean((1, 2)) if n_features else None))
    np.testing.assert_allclose(inside.ood_score, expected, rtol=1e-4)
    assert (inside.ood_score < 1.0).all()
    assert (outside.ood_score > 1.0).all()
    assert not (inside.flags & Flag.OUT_OF_DISTRIBUTION).any()
    assert (outside.flags & Flag.OUT_OF_DISTRIBUTION).all()
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(TRAINED), record=toy_ood_record(n_features=0))
    with pytest.raises(InvalidBundle, match=r"ood.npz holds .*features.*; the card of toy says {'noise': \(4,\)"):
        Predictor.load(bundle)


class Broken:
    """Images of which one row cannot be read, and which count the slices that are read."""

    def __init__(self, images):
        self.images, self.row, self.shape, self.read = images, -1, images.shape, 0

    def __getitem__(self, key):
        self.read += 1
        if self.row in np.atleast_1d(np.arange(N)[key]):
            raise OSError("damaged")
        return self.images[key]


def test_rows_are_read_in_the_order_asked_for_without_rejected_ones():
    columns = {"ebv": np.where(np.arange(N) < 9, np.nan, 0.2), "object_id": np.arange(N)}
    cutouts = Cutouts(Broken(galaxies(GRIZ, N)), columns)
    batches = list(read_batches(cutouts, GRIZ, 0.03))
    assert [len(rows) for rows, _ in batches] == [len(batch) for _, batch in batches] == [BATCH_ROWS, 44]
    np.testing.assert_array_equal(np.concatenate([batch.images for _, batch in batches]), cutouts.images.images)
    assert np.concatenate([batch.names for _, batch in batches]).tolist() == list(range(N))
    assert batches[0][1].ebv[:10] == pytest.approx([0.03] * 9 + [0.2])
    assert cutouts.images.read == 2
    for rows, n_reads in (([7, 3, 150], 3), ([3, 5, 4], 3), ([4, 4, 6], 3), ([5, 6, 7], 1)):
        cutouts.images.read = 0
        batch = read_batch(cutouts, np.array(rows), GRIZ, 0.03)
        np.testing.assert_array_equal(batch.images, cutouts.images.images[rows])
        assert batch.names.tolist() == rows
        assert cutouts.images.read == n_reads
        assert [chosen.tolist() for chosen, _ in read_batches(cutouts, GRIZ, 0.03, np.array(rows))] == [rows]
    cutouts.columns["ebv"][5] = -1.0
    cutouts.images.images[6] = np.nan
    cutouts.images.row = 160
    rejected = {}
    batches = list(read_batches(cutouts, GRIZ, 0.03, reject=rejected.__setitem__))
    assert np.concatenate([rows for rows, _ in batches]).tolist() == [n for n in range(N) if n not in (5, 6, 160)]
    for rows, batch in batches:
        np.testing.assert_array_equal(batch.images, cutouts.images.images[rows])
    assert rejected == {
        5: "expected 0 <= ebv <= 10 mag, got -1 for the cutout",
        6: "the cutout has no finite pixel; expected some signal in each cutout",
        160: "it cannot be read: damaged",
    }
    with pytest.raises(InvalidImages, match="^cutout 5 has no finite pixel"):
        read_batch(cutouts, np.arange(10, dtype=int)[np.arange(10) != 5], GRIZ, 0.03)
