"""What the service says of itself to Prometheus."""

import re

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running import ROOT
from toys import galaxies

from photoz import drift
from photoz.estimates import Flag
from service.edge.visit import OTHER, Visit, route
from service.metrics import LABELS, REFUSALS, Histogram

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def families(client):
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(client, name, **labels):
    """Sum the samples of a name over all labels but those given."""
    samples = [sample for family in families(client).values() for sample in family.samples]
    wanted = labels.items()
    return sum(one.value for one in samples if one.name == name and wanted <= one.labels.items())


def test_a_histogram_counts_as_numpy_does():
    rng = np.random.default_rng(0)
    values, edges = rng.normal(size=1000).astype(np.float32), (-1.0, 0.0, 0.5, 2.0)
    histogram = Histogram(edges)
    histogram.add(values.reshape(10, 100))
    histogram.add([np.nan, 0.5])  # at an edge is below it
    histogram.add_one(7.0)
    for name, count in histogram.buckets():
        assert count == np.sum(np.append(values, [0.5, 7.0]) <= float(name))
    assert histogram.sum == pytest.approx(values.astype(float).sum() + 7.5)


def test_requests_and_galaxies_are_counted(client, post_npy, card):
    names = (
        "photoz_request_rows_sum",
        "photoz_batch_rows_sum",
        "photoz_estimates_count",
        "photoz_engine_seconds_count",
    )
    before = {name: value(client, name) for name in names}
    posted = value(client, "photoz_requests_total", route="/predict_file", method="POST", status="200")
    flagged = value(client, "photoz_flags_total", flag="EBV_ASSUMED")
    assert post_npy("/predict_file", galaxies(card.image, 5)).status_code == 200
    after = {name: value(client, name) for name in names}
    added = {name: after[name] - before[name] for name in names}
    assert added == dict(zip(names, (5, 5, 15, 1), strict=True))
    assert value(client, "photoz_flags_total", flag="EBV_ASSUMED") == flagged + 5
    assert value(client, "photoz_requests_total", route="/predict_file", method="POST", status="200") == posted + 1


def test_the_estimates_are_counted_in_the_bins_of_the_card(client, card):
    found = families(client)
    for quantity, reference in card.reference.histograms.items():
        edges = [
            sample.labels["le"]
            for sample in found["photoz_estimates"].samples
            if sample.name.endswith("_bucket") and sample.labels["quantity"] == quantity
        ]
        told = {
            sample.labels["le"]: sample.value
            for sample in found["photoz_reference_fraction"].samples
            if sample.labels["quantity"] == quantity
        }
        assert edges == [*told, "+Inf"]
        assert list(told.values()) == list(reference.fractions)
    assert set(card.reference.histograms) == {drift.Z_MEAN, drift.Z_WIDTH68, drift.OOD_SCORE}


def test_no_caller_can_make_a_new_series(client):
    before = {one.name + str(one.labels) for family in families(client).values() for one in family.samples}
    for path in ("/x", "/x/y", "/v2/x", "/v2/models/x/infer", "/v2x", "/predict/", "/%00", "/model?x=1"):
        for method in ("GET", "POST", "BREW"):
            client.request(method, path)
    after = {sample.name + str(sample.labels) for family in families(client).values() for sample in family.samples}
    new = [re.search(r"'route': '([^']*)'", name) for name in after - before]
    assert all(found and found[1] in LABELS for found in new)
    assert not any("BREW" in name for name in after)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/", "/"),
        ("/predict", "/predict"),
        ("/v2/models/photoz/infer", "/v2/infer"),
        ("/v2/models/photoz/versions/7/infer", "/v2/infer"),
        ("/v2/models/photoz", "/v2"),
        ("/v2", "/v2"),
        ("/v2x", OTHER),
        ("/wp-admin", OTHER),
    ],
)
def test_paths_are_folded(path, label):
    assert route(path) == label
    assert label in LABELS


def test_a_visit_takes_the_name_that_it_is_given_if_that_is_harmless():
    def name(given):
        return Visit.of({"method": "GET", "path": "/"}, {b"x-request-id": given}).id

    assert name(b"run-7.galaxy:42") == "run-7.galaxy:42"
    for harmful in (b"", b"a b", b"a\r\nb", b'a"b', b"a" * 129, b"\xff"):
        assert re.fullmatch("[0-9a-f]{16}", name(harmful))
    assert name(b"") != name(b"")


def test_the_documented_metrics_are_the_ones_there_are(client):
    told = set()
    for names in re.findall(r"^\| (`photoz_.*?) \|", OPERATIONS, re.MULTILINE):
        told |= {name.removesuffix("_total") for name in re.findall(r"`(photoz_\w+)`", names)}
    assert told == {name for name in families(client) if name.startswith("photoz_")}
    for reason in REFUSALS:
        assert f"`{reason}`" in OPERATIONS


def test_every_flag_is_counted(client):
    flags = {sample.labels["flag"] for sample in families(client)["photoz_flags"].samples}
    assert flags == {flag.name for flag in Flag}
