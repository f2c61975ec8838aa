"""The way of one file through the service: our functions in the order of their first calls.

`python -m tests.service.tour` prints the table of CONTRIBUTING.md, `--write` puts it there.
"""

import asyncio
import os
import re
import sys
import threading
from itertools import groupby
from pathlib import Path

import httpx

from tests.running import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PACKAGES = tuple(f"{ROOT / name}{os.sep}" for name in ("photoz", "service"))

# Files that are one row of the table each: those of array functions, and that whose threads call it in any order.
FOLDED = {f"photoz/{name}.py" for name in ("images", "pdf", "ood", "flags", "estimates")} | {"service/batcher.py"}


def trace() -> dict[tuple[str, str], int]:
    """Send a file to the application; return our functions that are called, by file and name, and their lines."""
    calls, recording = {}, threading.Event()

    def profile(frame, event, argument):
        code = frame.f_code
        if event == "call" and recording.is_set() and code.co_filename.startswith(PACKAGES):
            name = code.co_qualname.replace(".<locals>", "")
            if not re.search(r"<(list|dict|set)comp>$", name):  # which Python 3.12 does not call any more
                calls.setdefault((str(Path(code.co_filename).relative_to(ROOT)), name), code.co_firstlineno)

    threading.setprofile(profile)  # the batcher's threads start with the application
    sys.setprofile(profile)
    asyncio.run(_send(recording))
    sys.setprofile(None)
    return calls


async def _send(recording: threading.Event) -> None:
    from service import limits
    from service.bento import asgi, bento_service

    limits.WATCH_CLIENT_AFTER = 3600.0  # however slow this machine is
    app, body = bento_service.to_asgi(), (ROOT / "examples" / "cutouts.npz").read_bytes()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(asgi()), base_url="http://tour")
    async with app.router.lifespan_context(app), client:
        for _ in range(4):  # the second of the batcher's two threads begins its batch in one of them
            (await client.post("/predict_file", content=body)).raise_for_status()
            recording.set()
        recording.clear()


def table(steps: dict[tuple[str, str], int]) -> str:
    """Return the table: a row for successive functions of one file, and one for each of the files in `FOLDED`."""
    lines = ["| # | functions | file |", "| --- | --- | --- |"]
    first = {file: (file, name) for file, name in reversed(steps)}
    shown = [step for step in steps if step[0] not in FOLDED or step == first[step[0]]]
    for number, (file, successive) in enumerate(groupby(shown, key=lambda step: step[0]), 1):
        if file in FOLDED:
            successive = sorted((step for step in steps if step[0] == file), key=steps.__getitem__)
        lines.append(f"| {number} | {', '.join(f'`{name}`' for _, name in successive)} | `{file}` |")
    return "\n".join(lines)


def read_table(text: str) -> set[tuple[str, str]]:
    """Return the functions of a table: their order may differ, by the threads."""
    rows = re.findall(r"^\| \d+ \| (.*) \| `(.*)` \|$", text, re.MULTILINE)
    return {(file, name) for names, file in rows for name in re.findall("`(.*?)`", names)}


def documented() -> str:
    return re.search(r"(?s)<!-- tour -->\n(.*)\n<!-- /tour -->", CONTRIBUTING.read_text(encoding="utf-8"))[1]


if __name__ == "__main__":
    found = table(trace())
    if sys.argv[1:] != ["--write"]:
        print(found)
    elif read_table(found) != read_table(documented()):
        CONTRIBUTING.write_text(CONTRIBUTING.read_text(encoding="utf-8").replace(documented(), found), encoding="utf-8")
