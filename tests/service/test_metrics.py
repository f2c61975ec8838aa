"""Metrics for Prometheus."""

import re
from itertools import product

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from photoz import drift
from photoz.flags import Flag
from service.metrics import LABELS, Distributions, Metrics
from service.request import OTHER, MemoryBudget, Request
from tests.running import ROOT
from tests.service.helpers import families, metric, wait_for
from tests.service.requests import make_request, make_scope
from tests.toys import GRID_90, GRIZ, galaxies, npy_bytes, toy_card

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
TOY_CARD = toy_card(GRIZ, GRID_90, False)


def families_of(metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}


def samples_of(metrics):
    """Return the samples that are not 0, but for those of this process and of buckets."""
    samples = [one for family in families_of(metrics).values() for one in family.samples]
    kept = [one for one in samples if one.value and not re.match(r"process_|.*_bucket$", one.name)]
    return {" ".join([one.name, *one.labels.values()]): one.value for one in kept}


def test_requests_and_galaxies_are_counted():
    metrics = Metrics(TOY_CARD)
    assert samples_of(metrics) == {"photoz_model_info toy 1": 1}
    request, other = make_request(b"abc"), make_request(b"")
    request.route, request.rows, request.status = "/predict_file", 2, 200
    request.begin -= 1000
    metrics.record_request(request)
    other.method = "BREW"
    metrics.record_request(other)
    assert metrics.measure_inference(lambda batch: batch * 2)([1, 2, 3]) == [1, 2, 3] * 2
    with pytest.raises(ValueError, match="broken"):
        metrics.measure_inference(lambda batch: int("broken"))([1])
    flags = np.array([Flag.EBV_ASSUMED, Flag.EBV_ASSUMED | Flag.LOW_SNR])
    summarise = metrics.measure_estimates(lambda *of: {"flags": flags, "z_mean": np.array([0.25, 0.5])})
    assert summarise("batch", "output")["flags"] is flags
    samples = samples_of(metrics)
    seconds = [samples.pop(f"photoz_request_duration_seconds_sum {route}") for route in ("/predict_file", "/")]
    assert seconds[0] > 1000 > seconds[1]
    assert samples.pop("photoz_inference_duration_seconds_sum") > 0
    assert samples == {
        "photoz_model_info toy 1": 1,
        "photoz_requests_total POST /predict_file 200": 1,
        "photoz_requests_total other / 0": 1,
        "photoz_request_duration_seconds_count /predict_file": 1,
        "photoz_request_duration_seconds_count /": 1,
        "photoz_request_body_bytes_total /predict_file": 3,
        "photoz_request_rows_count": 1,
        "photoz_request_rows_sum": 2,
        "photoz_batch_rows_count": 1,
        "photoz_batch_rows_sum": 3,
        "photoz_inference_duration_seconds_count": 2,
        "photoz_inference_failures_total": 1,
        "photoz_flags_total EBV_ASSUMED": 2,
        "photoz_flags_total LOW_SNR": 1,
        "photoz_estimates_count z_mean": 2,
        "photoz_estimates_sum z_mean": 0.75,
    }


def test_service_counts_what_the_documents_list(service_url, post_npy, card):
    cutouts = galaxies(card.image, 5)
    rises = {"photoz_request_body_bytes_total": len(npy_bytes(cutouts)), "photoz_request_rows_sum": 5}
    rises |= {"photoz_batch_rows_sum": 5, "photoz_estimates_count": 15, "photoz_flags_total": 5}
    before = {name: metric(service_url, name) for name in rises}
    assert post_npy("/predict_file", cutouts).status_code == 200
    wait_for(lambda: all(metric(service_url, name) >= before[name] + rise for name, rise in rises.items()))
    rows = re.findall(r"^\| (`photoz_.*?) \|", OPERATIONS, re.MULTILINE)
    documented = {name.removesuffix("_total") for row in rows for name in re.findall(r"`(photoz_\w+)`", row)}
    assert documented == {name for name in families(service_url) if name.startswith("photoz_")}


def test_series_start_at_zero():
    """Prometheus sees no rise in a series that starts at 1."""
    found = families_of(Metrics(TOY_CARD))
    labels = {name: [sample.labels for sample in family.samples] for name, family in found.items()}
    statuses = ("200", "400", "401", "413", "422", "429", "500", "504")
    counted = {(of["route"], of["status"]) for of in labels["photoz_requests"]}
    assert counted == set(product(("/predict", "/predict_file", "/evaluate", "/v2/infer"), statuses))
    assert {of["flag"] for of in labels["photoz_flags"]} == {flag.name for flag in Flag}
    assert {of["route"] for of in labels["photoz_request_duration_seconds"]} == set(LABELS)
    buckets = {
        "request_duration_seconds": "0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 +Inf",
        "inference_duration_seconds": "0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1.0 +Inf",
        "batch_rows": "1.0 2.0 4.0 8.0 16.0 32.0 64.0 +Inf",
        "request_rows": "1.0 4.0 16.0 64.0 256.0 1024.0 4096.0 +Inf",
    }
    for name, edges in buckets.items():
        assert " ".join(dict.fromkeys(of["le"] for of in labels[f"photoz_{name}"] if "le" in of)) == edges


def by_edge(family, quantity):
    samples = [sample for sample in family.samples if sample.labels["quantity"] == quantity and "le" in sample.labels]
    return {sample.labels["le"]: sample.value for sample in samples}


def test_estimates_are_counted_in_the_bins_of_the_card(card):
    found = families_of(Metrics(card))
    assert set(card.reference.histograms) == {drift.Z_MEAN, drift.Z_WIDTH68, drift.OOD_SCORE}
    for quantity, reference in card.reference.histograms.items():
        fractions = by_edge(found["photoz_reference_fraction"], quantity)
        assert list(fractions.values()) == list(reference.fractions)
        assert list(by_edge(found["photoz_estimates"], quantity)) == [*fractions, "+Inf"]


def test_distributions_count_as_numpy_does():
    rng = np.random.default_rng(0)
    lower, width = rng.uniform(0, 0.5, 1000), rng.uniform(0, 0.2, 1000)
    columns = {"z_mean": lower, "z_lo68": lower, "z_hi68": lower + width, "ood_score": np.full(1000, np.nan)}
    distributions = Distributions(TOY_CARD)
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


def test_paths_are_folded():
    labels = {"/": "/", "/predict": "/predict", "/v2": "/v2", "/v2/models/a": "/v2", "/v2x": OTHER, "/wp-admin": OTHER}
    labels |= dict.fromkeys(("/v2/models/a/infer", "/v2/models/a/versions/7/infer"), "/v2/infer")
    assert {path: Request(make_scope(path=path), MemoryBudget(1)).route for path in labels} == labels
    assert set(labels.values()) <= set(LABELS)
