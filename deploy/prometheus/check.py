"""Ask a real Prometheus everything that the dashboard and the rules ask, and say what has no answer.

It has loaded rules.yaml and alerts.yaml and watches a service that predicted something half a minute to five minutes
ago. Needs the package httpx, which comes with photoz:

    python deploy/prometheus/check.py http://127.0.0.1:9090

Ends with 1 if a query of the dashboard or a recording rule gives no number, a rule cannot be evaluated, or an alert
asks for a metric that is not there. An alert itself need give nothing: that is what it is to give.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

DASHBOARD = Path(__file__).resolve().parents[1] / "grafana" / "photoz.json"

# What Grafana puts in for its variables: all targets, and windows in which something was asked.
VARIABLES = {"$job": ".*", "$instance": ".*", "$window": "5m", "$__rate_interval": "5m"}

METRIC = re.compile(r"\b(?:photoz[\w:]*|process_\w+|up\b)")

TIMEOUT = 30.0  # seconds


class NoAnswer(Exception):
    """Prometheus has no number for a query, or none to give."""


def dashboard_queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title of a panel and a query, as Grafana would ask it, for all that there are."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def get(http: httpx.Client, path: str, **parameters: str) -> Any:
    """Return the data of an answer; `NoAnswer` with Prometheus's words if there is none."""
    content = http.get(f"/api/v1/{path}", params=parameters).json()
    if content["status"] != "success":
        raise NoAnswer(content["error"])
    return content["data"]


def ask(http: httpx.Client, query: str) -> int:
    """Return how many numbers a query gives now; `NoAnswer` if there are none."""
    numbers = [float(one["value"][1]) for one in get(http, "query", query=query)["result"]]
    known = sum(not math.isnan(number) for number in numbers)
    if not known:
        raise NoAnswer(f"{len(numbers)} series, none with a number")
    return known


def check_rule(http: httpx.Client, rule: dict[str, Any]) -> int:
    """Return how many numbers a rule gives, or how many metrics an alert asks for; `NoAnswer` if it cannot work."""
    if rule["health"] != "ok":
        raise NoAnswer(rule.get("lastError") or f"its health is {rule['health']}")
    if rule["type"] == "recording":
        return ask(http, rule["name"])
    get(http, "query", query=rule["query"])
    metrics = set(METRIC.findall(re.sub(r'"[^"]*"', "", rule["query"])))
    return sum(ask(http, f"count({metric})") for metric in metrics)


def checks(http: httpx.Client) -> Iterator[tuple[str, str, Any]]:
    """Yield all that is to be checked: what it belongs to, the query, and a function that gives a count."""
    for title, query in dashboard_queries(json.loads(DASHBOARD.read_text(encoding="utf-8"))):
        yield title, query, lambda query=query: ask(http, query)
    rules = [rule for group in get(http, "rules")["groups"] for rule in group["rules"]]
    if {rule["type"] for rule in rules} != {"recording", "alerting"}:
        raise NoAnswer("expected rules.yaml and alerts.yaml to be loaded")
    for rule in rules:
        yield rule["name"], rule["query"], lambda rule=rule: check_rule(http, rule)


def check_targets(http: httpx.Client) -> None:
    """Raise `NoAnswer` if no service is watched, without which nothing else has an answer."""
    targets = [one for one in get(http, "targets")["activeTargets"] if one["labels"]["job"] == "photoz"]
    if not any(one["health"] == "up" for one in targets):
        told = "; ".join(f"{one['scrapeUrl']} {one['health']} {one['lastError']}".rstrip() for one in targets)
        raise NoAnswer(f"expected a target of the job photoz that is up, got {told or 'none'}")


def main(url: str) -> int:
    """Print a line for each query and rule; return how many failed, 1 at most."""
    failed = 0
    with httpx.Client(base_url=url, timeout=TIMEOUT) as http:
        check_targets(http)
        for name, query, count in checks(http):
            try:
                print(f"ok      {name}: {count()}")
            except NoAnswer as error:
                failed = 1
                print(f"FAILED  {name}: {error}\n        {query}")
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python deploy/prometheus/check.py http://127.0.0.1:9090")
    try:
        sys.exit(main(sys.argv[1]))
    except (NoAnswer, httpx.HTTPError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
