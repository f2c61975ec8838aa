"""The way of one file through the service: our functions in the order of their first calls.

`python -m tests.service.tour` prints the table of CONTRIBUTING.md, `--write` puts it there.
"""

import argparse
import asyncio
import os
import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tests.running import ROOT
from tests.service.requests import make_scope

PACKAGES = tuple(f"{ROOT / name}{os.sep}" for name in ("photoz", "service"))
COMPREHENSIONS = re.compile(r"<(list|dict|set)comp>$")  # which Python 3.12 does not call any more

# Files that are one row of the table each: those of array functions, and that whose threads call it in any order.
FOLDED = frozenset(f"photoz/{name}.py" for name in ("images", "pdf", "ood", "flags", "estimates")) | {
    "service/batcher.py"
}

MARKERS = "<!-- tour -->", "<!-- /tour -->"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

Step = tuple[str, str]  # file, qualified name of a function


def trace() -> dict[Step, int]:
    """Send a file to the application, again and again; return our functions, and their lines, that are then called."""
    calls: dict[Step, int] = {}
    recording = threading.Event()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not recording.is_set() or not code.co_filename.startswith(PACKAGES):
            return
        if not COMPREHENSIONS.search(code.co_qualname):
            name = code.co_qualname.replace(".<locals>", "")
            calls.setdefault((str(Path(code.co_filename).relative_to(ROOT)), name), code.co_firstlineno)

    threading.setprofile(profile)  # the batcher's threads start with the application
    sys.setprofile(profile)
    try:
        from service.bento import asgi

        asyncio.run(_serve(asgi(), recording))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


async def _serve(app: Any, recording: threading.Event) -> None:
    events, started, served = iter(("startup", "shutdown")), asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        event = next(events)
        if event == "shutdown":
            await served.wait()
        return {"type": f"lifespan.{event}"}

    async def send(message: Any) -> None:
        assert message["type"].endswith(".complete"), message
        started.set()

    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    await started.wait()
    await _request(app)
    await asyncio.sleep(0.1)  # until the batcher's threads wait
    recording.set()
    for _ in range(3):  # so that one of the batcher's two threads begins a second batch, however slow it is
        await _request(app)
    recording.clear()
    served.set()
    await lifespan


async def _request(app: Any) -> None:
    body = (ROOT / "examples" / "cutouts.npz").read_bytes()
    parts, statuses = [{"type": "http.request", "body": body, "more_body": True}], []

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = make_scope(path="/predict_file", content_length=str(len(body)))
    await app(scope | {"scheme": "http", "root_path": "", "server": ("127.0.0.1", 3000)}, receive, send)
    assert statuses[0] == 200


def table(steps: dict[Step, int]) -> str:
    """Return the table: a row for successive functions of one file, and one for each of the files in `FOLDED`."""
    rows, listed = list[tuple[str, list[str]]](), set[Step]()
    for step in steps:
        file, name = step
        if file in FOLDED and step not in listed:
            same = sorted((other for other in steps if other[0] == file), key=steps.__getitem__)
            listed.update(same)
            rows.append((file, [name for _, name in same]))
        elif file not in FOLDED and rows and rows[-1][0] == file:
            rows[-1][1].append(name)
        elif file not in FOLDED:
            rows.append((file, [name]))
    lines = [
        f"| {number} | {', '.join(f'`{name}`' for name in names)} | `{file}` |"
        for number, (file, names) in enumerate(rows, 1)
    ]
    return "\n".join(["| # | functions | file |", "| --- | --- | --- |", *lines])


def read_table(text: str) -> list[Step]:
    """Return the functions of a table."""
    rows = re.findall(r"^\| \d+ \| (.*) \| `(.*)` \|$", text, re.MULTILINE)
    return [(file, name) for names, file in rows for name in re.findall("`(.*?)`", names)]


def documented() -> str:
    """Return the table of CONTRIBUTING.md."""
    return CONTRIBUTING.read_text(encoding="utf-8").split(MARKERS[0])[1].split(MARKERS[1])[0].strip()


def main() -> None:
    """Print the table, or write it into CONTRIBUTING.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into CONTRIBUTING.md")
    found = table(trace())
    if not parser.parse_args().write:
        print(found)
    elif set(read_table(found)) != set(read_table(documented())):  # the order of the threads may differ
        text = CONTRIBUTING.read_text(encoding="utf-8")
        CONTRIBUTING.write_text(text.replace(documented(), found), encoding="utf-8")


if __name__ == "__main__":
    main()
