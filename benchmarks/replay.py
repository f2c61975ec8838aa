"""Record the answers of a service to several hundred requests, and compare those of another checkout with them.

    python -m benchmarks.replay record FILE --checkout PATH
    python -m benchmarks.replay compare FILE --checkout PATH

Successes have to be equal byte for byte, and errors in their status; error messages that differ are listed. FILE also
contains the requests, so that both checkouts get the same bytes.
"""

import argparse
import base64
import hashlib
import itertools
import json
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import ROOT
from benchmarks.harness.http_client import Connection, Cut, Lost, NotHttp, Refused, request
from benchmarks.harness.processes import running, service
from tests.attack.attacks import attack_of
from tests.attack.messages import EVALUATE, EVALUATED, GROUPS, PLOTS, PREDICT, REPORT, group

SERVICES = {
    "usual": {"PHOTOZ_MAX_MEMORY_BYTES": str(2**28)},
    "keys": {"PHOTOZ_API_KEYS_FILE": "{keys}"},
    "small": {"PHOTOZ_MAX_ROWS": "2", "PHOTOZ_MAX_BODY_BYTES": "300000", "PHOTOZ_MAX_HEADER_BYTES": "1024"},
    "hurried": {"PHOTOZ_EVALUATION_TIMEOUT": "0.01"},
    "broken": {},  # for messages that may get no answer
    "busy": {"PHOTOZ_MAX_IN_FLIGHT": "1"},  # each request is sent while it draws a report
}
KEY = "key-of-the-replay"
ATTACKS = 100  # messages changed at random, of those that wait for one answer
VOLATILE = ("date", "x-request-id", "last-modified", "etag")
SHOWN = 2000  # bytes of an answer that are recorded as text
BUSY_AFTER = 0.2  # seconds after which the report is certainly in flight
TIMEOUT, TIMEOUT_OF_BROKEN = 60.0, 4.0  # seconds to wait for an answer

Answer = dict[str, Any]


def messages() -> Iterator[tuple[str, str, bytes]]:
    """Yield the service that a message is for, what it is, and its bytes."""
    for name in GROUPS:
        for what, content in group(name):
            yield "broken" if name == "broken" else "usual", what, content
            if name in ("files", "evaluations", "JSON", "inference"):
                yield "small", what, content
    attacks = (attack_of(0, number) for number in itertools.count())
    for attack in itertools.islice((attack for attack in attacks if attack.finish == "wait"), ATTACKS):
        yield "broken", attack.kind, b"".join(attack.pieces)
    for size in (800, 1100, 40_000):
        yield "small", f"head of {size}", request("GET", "/livez", b"", "X-Long: " + "v" * size)
    for path in ("/", "/ui", "/ui/main.js", "/ui/options.json", "/livez", "/metrics", "/model", "/docs.json", "/no"):
        for value in (f"Bearer {KEY}", f"bearer  {KEY} ", "Bearer wrong", "Basic eA==", ""):
            lines = [f"Authorization: {value}"] if value else []
            yield "keys", f"{path} by {value!r}", request("GET", path, b"", *lines)
            yield "keys", f"report by {value!r}", request("POST", EVALUATE, EVALUATED, *lines)
    for query in ("", *(f"?plot={plot}" for plot in PLOTS)):
        yield "hurried", f"evaluate{query}", request("POST", EVALUATE + query, EVALUATED)
    for path in ("/livez", "/readyz", "/metrics", "/model"):
        yield "busy", path, request("GET", path)
    yield "busy", "file", request("POST", PREDICT, EVALUATED)


def ask(port: int, content: bytes, timeout: float = TIMEOUT) -> Answer:
    """Send a message on a connection of its own; return what came back."""
    try:
        with closing(Connection(port)) as connection:
            with suppress(Cut):  # there may still be an answer
                connection.send(content)
            reply = connection.receive(timeout, bodiless=content.startswith(b"HEAD "))
    except (Lost, NotHttp, Refused) as error:
        return {"status": type(error).__name__}
    if content.startswith(b"GET /metrics "):
        return {"status": reply.status}
    headers = {name: value for name, value in reply.headers.items() if name not in VOLATILE}
    if "allow" in headers:  # a set
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    shown = reply.body[:SHOWN].decode(errors="replace")
    return {"status": reply.status, "headers": headers, "sha256": _hash(reply.body), "body": shown}


def ask_beside_report(port: int, content: bytes) -> Answer:
    """Send a message while the service draws a report."""
    thread = threading.Thread(target=ask, args=(port, REPORT))
    thread.start()
    time.sleep(BUSY_AFTER)
    answer = ask(port, content)
    thread.join()
    return answer


def answers(exchanges: list[Answer], contents: Mapping[str, bytes], checkout: Path) -> list[Answer]:
    """Send all messages to the services of a checkout; return the answers in their order."""
    received: dict[int, Answer] = {}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(f"replay {_hash(KEY.encode())}\n")
        for name, settings in SERVICES.items():
            variables = {variable: value.format(keys=keys) for variable, value in settings.items()}
            recipe = service(checkout / "models" / "photoz", **variables)
            send = {"busy": ask_beside_report, "broken": partial(ask, timeout=TIMEOUT_OF_BROKEN)}.get(name, ask)
            with running(replace(recipe, checkout=checkout, asks_ready=True)) as server:
                for number, exchange in enumerate(exchanges):
                    if exchange["service"] == name:
                        received[number] = send(server.recipe.port, contents[exchange["content"]])
    return [received[number] for number in range(len(exchanges))]


def record(path: Path, checkout: Path) -> int:
    """Make the messages, send them, and write them with the answers."""
    contents: dict[str, bytes] = {}
    exchanges: list[Answer] = []
    for name, what, content in messages():
        contents[_hash(content)] = content
        exchanges.append({"service": name, "what": what, "content": _hash(content)})
    for exchange, answer in zip(exchanges, answers(exchanges, contents, checkout), strict=True):
        exchange["answer"] = answer
    packed = {name: base64.b64encode(zlib.compress(content)).decode() for name, content in contents.items()}
    path.write_text(json.dumps({"exchanges": exchanges, "contents": packed}, indent=1))
    print(f"{len(exchanges)} requests recorded")
    return 0


def compare(path: Path, checkout: Path) -> int:
    """Send the messages of a file again, and print which answers differ from those in it."""
    recorded = json.loads(path.read_text())
    contents = {name: zlib.decompress(base64.b64decode(packed)) for name, packed in recorded["contents"].items()}
    exchanges = recorded["exchanges"]
    differing = texts = 0
    for exchange, now in zip(exchanges, answers(exchanges, contents, checkout), strict=True):
        before = exchange["answer"]
        if before == now:
            continue
        is_error = before["status"] == now["status"] and not 200 <= int(before["status"]) < 400
        kind = "message" if is_error else "DIFFERENT"
        differing, texts = differing + (not is_error), texts + is_error
        print(f"{kind}: {exchange['service']}: {exchange['what']}\n  before: {_words(before)}\n  now:    {_words(now)}")
    print(f"{len(exchanges)} requests, {differing} answers differ, {texts} messages of errors differ")
    return int(differing > 0)


def _words(answer: Answer) -> str:
    return json.dumps(answer)[:600]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("task", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose service is started")
    options = parser.parse_args()
    task = {"record": record, "compare": compare}[options.task]
    return task(options.file, options.checkout.resolve())


if __name__ == "__main__":
    sys.exit(main())
