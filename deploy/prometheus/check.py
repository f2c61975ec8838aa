"""Run every query of the dashboard and the rules against a Prometheus, and report those without an answer.

Prometheus has to have loaded rules.yaml and alerts.yaml, and to scrape a service that predicted something half a minute
to five minutes ago. Needs the package httpx, which is installed with photoz:

    python deploy/prometheus/check.py http://127.0.0.1:9090

The exit status is 1 if a query of the dashboard or a recording rule returns no number, a rule cannot be evaluated, or
an alert uses a metric that does not exist. An alert itself may return nothing: that is its normal state.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

DASHBOARD = Path(__file__).resolve().parents[1] / "grafana" / "photoz.json"

# Values for the variables of Grafana: all targets, and windows that contain the last requests.
VARIABLES = {"$job": ".*", "$instance": ".*", "$window": "5m", "$__rate_interval": "5m"}

METRIC = re.compile(r"\b(?:photoz[\w:]*|process_\w+|up\b)")

TIMEOUT = 30.0  # seconds


class NoAnswer(Exception):
    """Prometheus has no number for a query."""


def dashboard_queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title of a panel and a query, with Grafana's variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def get(http: httpx.Client, path: str, **parameters: str) -> Any:
    """Return the data of an answer of the API; raises `NoAnswer` with the error of Prometheus."""
    content = http.get(f"/api/v1/{path}", params=parameters).json()
    if content["status"] != "success":
        raise NoAnswer(content["error"])
    return content["data"]


def count_numbers(http: httpx.Client, query: str) -> int:
    """Return how many numbers a query returns now; raises `NoAnswer` if there are none."""
    values = [float(series["value"][1]) for series in get(http, "query", query=query)["result"]]
    n_numbers = sum(not math.isnan(value) for value in values)
    if not n_numbers:
        raise NoAnswer(f"{len(values)} series, none with a number")
    return n_numbers


def check_rule(http: httpx.Client, rule: dict[str, Any]) -> int:
    """Return how many numbers a recording rule, or the metrics of an alert, have; raises `NoAnswer` if none."""
    if rule["health"] != "ok":
        raise NoAnswer(rule.get("lastError") or f"its health is {rule['health']}")
    if rule["type"] == "recording":
        return count_numbers(http, rule["name"])
    get(http, "query", query=rule["query"])
    metrics = set(METRIC.findall(re.sub(r'"[^"]*"', "", rule["query"])))
    return sum(count_numbers(http, f"count({metric})") for metric in metrics)


def checks(http: httpx.Client) -> Iterator[tuple[str, str, Callable[[], int]]]:
    """Yield each check: the panel or rule, the query, and a function that returns a count."""
    for title, query in dashboard_queries(json.loads(DASHBOARD.read_text(encoding="utf-8"))):
        yield title, query, lambda query=query: count_numbers(http, query)
    rules = [rule for group in get(http, "rules")["groups"] for rule in group["rules"]]
    if {rule["type"] for rule in rules} != {"recording", "alerting"}:
        raise NoAnswer("expected rules.yaml and alerts.yaml to be loaded")
    for rule in rules:
        yield rule["name"], rule["query"], lambda rule=rule: check_rule(http, rule)


def check_targets(http: httpx.Client) -> None:
    """Raise `NoAnswer` unless a service is scraped: without one no query has an answer."""
    targets = [target for target in get(http, "targets")["activeTargets"] if target["labels"]["job"] == "photoz"]
    if not any(target["health"] == "up" for target in targets):
        found = "; ".join(
            f"{target['scrapeUrl']} {target['health']} {target['lastError']}".rstrip() for target in targets
        )
        raise NoAnswer(f"expected a target of the job photoz that is up, got {found or 'none'}")


def main(url: str) -> int:
    """Print a line for each query and rule; return the exit status."""
    status = 0
    with httpx.Client(base_url=url, timeout=TIMEOUT) as http:
        check_targets(http)
        for name, query, count in checks(http):
            try:
                print(f"ok      {name}: {count()}")
            except NoAnswer as error:
                status = 1
                print(f"FAILED  {name}: {error}\n        {query}")
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python deploy/prometheus/check.py http://127.0.0.1:9090")
    try:
        sys.exit(main(sys.argv[1]))
    except (NoAnswer, httpx.HTTPError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
