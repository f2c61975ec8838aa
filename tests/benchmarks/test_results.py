"""Medians, limits, and what tables and records say of them; the figures of h2load."""

import argparse
import http.server
import json
import shutil
import threading
import time

import pytest

from benchmarks.harness.h2load import BadLoad, run_h2load
from benchmarks.harness.messages import Body
from benchmarks.harness.results import all_met, at_least, at_most, conclude, reported


def test_the_median_is_judged_by_the_limit():
    assert at_least("speed", [100, 200, 800], 200).cells == ("speed", "200 (100 to 800)", "at least 200", "yes")
    assert at_least("speed", [100, 199, 800], 200).cells[-1] == "**no**"
    assert reported("time", 2.5).cells == ("time", "2.50", "", "")
    assert [all_met([at_most("lost", lost, 0), reported("time", 9)]) for lost in (0, 1)] == [True, False]


def test_what_was_not_measured_is_not_met():
    assert at_least("speed", None, 2).cells == ("speed", "not measured", "at least 2", "")
    for missing in (at_least("speed", [], 2), at_most("lost", None, 0), at_most("lost", float("nan"), 0)):
        assert not all_met([missing, reported("nothing", None)])


def test_a_program_prints_its_results_and_writes_a_record(tmp_path, capsys):
    options = argparse.Namespace(program="x", run=print, output=tmp_path / "sub" / "x.json", seed=7)
    assert conclude(options, [at_most("lost", 0, 0), reported("time", [2.5, 3.5])], {"curve": [1]}) == 0
    assert "x: PASS" in capsys.readouterr().out
    record = json.loads(options.output.read_text())
    assert (record["passed"], record["options"], record["curve"]) == (True, {"program": "x", "seed": 7}, [1])
    assert record["results"][1] == {"what": "time", "median": 3.0, "values": [2.5, 3.5], "limit": None}
    assert conclude(options, [at_most("lost", 1, 0)], {}) == 1
    assert "x: FAIL" in capsys.readouterr().out


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with `status`, after 10 ms."""

    protocol_version, status = "HTTP/1.1", 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.01)
        self.wfile.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % self.status)


@pytest.mark.skipif(not shutil.which("h2load"), reason="needs h2load")
def test_h2load_measures_what_is_served_and_refuses_other_answers(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url, body = f"http://127.0.0.1:{server.server_port}/", Body(b"content", ("X-A: b",))
        figures = run_h2load(url, body, 2, 1.0)
        monkeypatch.setattr(Handler, "status", 429)
        with pytest.raises(BadLoad, match="429"):
            run_h2load(url, body, 2, 0.5)
        server.shutdown()
    assert 10 < figures["p50_ms"] <= figures["p99_ms"]
    assert 20 < figures["requests"] <= 200
    with pytest.raises(BadLoad):
        run_h2load(url, body, 2, 0.5)
