"""Metrics for Prometheus."""

import re

import numpy as np
import pytest

from photoz import drift
from photoz.flags import Flag
from service.metrics import LABELS, Distributions
from service.request import OTHER, MemoryBudget, Request
from tests.running import ROOT
from tests.service.helpers import families, metric
from tests.service.requests import make_scope
from tests.toys import GRID_90, GRIZ, galaxies, npy_bytes, toy_card

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_requests_and_galaxies_are_counted(service_url, post_npy, card):
    cutouts = galaxies(card.image, 5)
    posted = {"route": "/predict_file", "method": "POST", "status": "200"}
    expected = [
        ("photoz_requests_total", posted, 1),
        ("photoz_request_duration_seconds_count", {"route": "/predict_file"}, 1),
        ("photoz_request_body_bytes_total", {"route": "/predict_file"}, len(npy_bytes(cutouts))),
        ("photoz_request_rows_sum", {}, 5),
        ("photoz_batch_rows_sum", {}, 5),
        ("photoz_inference_duration_seconds_count", {}, 1),
        ("photoz_estimates_count", {}, 15),
        ("photoz_flags_total", {"flag": "EBV_ASSUMED"}, 5),
    ]
    before = [metric(service_url, name, **labels) for name, labels, _ in expected]
    assert post_npy("/predict_file", cutouts).status_code == 200
    after = [metric(service_url, name, **labels) for name, labels, _ in expected]
    assert np.subtract(after, before).tolist() == [rise for *_, rise in expected]


def by_edge(family, quantity):
    samples = [sample for sample in family.samples if sample.labels["quantity"] == quantity and "le" in sample.labels]
    return {sample.labels["le"]: sample.value for sample in samples}


def test_estimates_are_counted_in_the_bins_of_the_card(service_url, card):
    found = families(service_url)
    assert set(card.reference.histograms) == {drift.Z_MEAN, drift.Z_WIDTH68, drift.OOD_SCORE}
    for quantity, reference in card.reference.histograms.items():
        fractions = by_edge(found["photoz_reference_fraction"], quantity)
        assert list(fractions.values()) == list(reference.fractions)
        assert list(by_edge(found["photoz_estimates"], quantity)) == [*fractions, "+Inf"]


def test_distributions_count_as_numpy_does():
    rng = np.random.default_rng(0)
    lower, width = rng.uniform(0, 0.5, 1000), rng.uniform(0, 0.2, 1000)
    columns = {"z_mean": lower, "z_lo68": lower, "z_hi68": lower + width, "ood_score": np.full(1000, np.nan)}
    distributions = Distributions(toy_card(GRIZ, GRID_90, False))
    for rows in (slice(0, 300), slice(300, None)):
        distributions.add({name: values[rows] for name, values in columns.items()})
    at_an_edge = drift.edges(GRID_90)[drift.Z_MEAN][1]  # counts as below it
    distributions.add({"z_mean": np.array([np.nan, at_an_edge])})
    (family,) = (one for one in distributions.collect() if one.name == "photoz_estimates")
    sums = {sample.labels["quantity"]: sample.value for sample in family.samples if sample.name.endswith("_sum")}
    for quantity, values in [(drift.Z_MEAN, np.append(lower, at_an_edge)), (drift.Z_WIDTH68, width)]:
        counts = by_edge(family, quantity)
        assert counts == {edge: np.count_nonzero(values <= float(edge)) for edge in counts}
        assert sums[quantity] == pytest.approx(values.sum())


def series(service_url):
    samples = [sample for family in families(service_url).values() for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.items())) for sample in samples}


def test_clients_cannot_add_labels(client, service_url):
    before = series(service_url)
    for path in ("/x", "/x/y", "/v2/x", "/v2/models/x/infer", "/v2x", "/predict/", "/%00", "/model?x=1"):
        for method in ("GET", "POST", "BREW"):
            client.request(method, path)
    new = [dict(labels) for _, *labels in series(service_url) - before]
    assert all(labels.get("route") in LABELS for labels in new)
    assert all(labels.get("method", "GET") in ("GET", "POST", OTHER) for labels in new)


def test_paths_are_folded():
    labels = {"/": "/", "/predict": "/predict", "/v2": "/v2", "/v2/models/a": "/v2", "/v2x": OTHER, "/wp-admin": OTHER}
    labels |= dict.fromkeys(("/v2/models/a/infer", "/v2/models/a/versions/7/infer"), "/v2/infer")
    assert {path: Request(make_scope(path=path), MemoryBudget(1)).route for path in labels} == labels
    assert set(labels.values()) <= set(LABELS)


def test_work_is_counted_from_zero(service_url):
    """Prometheus sees no rise in a series that starts at 1."""
    found = families(service_url)
    series = [sample.labels for sample in found["photoz_requests"].samples]
    for route in ("/predict", "/predict_file", "/evaluate", "/v2/infer"):
        for status in ("200", "400", "401", "413", "422", "429", "500", "504"):
            assert {"route": route, "method": "POST", "status": status} in series
    assert {sample.labels["flag"] for sample in found["photoz_flags"].samples} == {flag.name for flag in Flag}


def test_metrics_are_documented(service_url):
    documented = set()
    for names in re.findall(r"^\| (`photoz_.*?) \|", OPERATIONS, re.MULTILINE):
        documented |= {name.removesuffix("_total") for name in re.findall(r"`(photoz_\w+)`", names)}
    assert documented == {name for name in families(service_url) if name.startswith("photoz_")}
