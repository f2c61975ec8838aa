"""The load generator: a process of its own that leaves the cores to the server.

    python -m benchmarks.load --port 3000 --path /v2/models/photoz/infer --clients 32 --images 1 --seconds 3

The requests are made before the clock runs; one thread sends and receives them, on one connection per client, without
waiting on any of them. With `--rate` requests come at random (Poisson) however fast the server is, and the time of a
request counts from when it should have been sent: a server that falls behind cannot hide it. Prints JSON.

Any error, and any reply that is not what the same request brought at first, ends the run with a message.
"""

import argparse
import gc
import json
import selectors
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.connection import BadReply, Connection
from benchmarks.cutouts import cutouts
from benchmarks.wire import FORMS, Form

STALLED = 60.0  # seconds without any reply
SAME = 0.01  # of a PDF's bin: what rounding may do to a quantised network, and far less than another cutout does

now = time.perf_counter


@dataclass(frozen=True)
class Timed:
    """When a request was to be sent, was sent, and was answered; seconds."""

    due: float
    sent: float
    answered: float


@dataclass(frozen=True)
class Report:
    """What a run saw; times in milliseconds.

    Parameters
    ----------
    images_per_s : float
        Images answered per second of the measured time; a request that lies across its edge counts in part.
    requests : int
        Answered in that time.
    p50_ms, p95_ms, p99_ms, max_ms : float
        From when a request was due to its answer.
    late_p99_ms : float
        By which requests left late, since the generator was slow or all its connections were waiting.
    generator_ms : float
        Processor time of the generator per request.
    """

    images_per_s: float
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float
    generator_ms: float


class Client:
    """One who asks the same again and again, and notes when.

    Parameters
    ----------
    connection : Connection
        That sends the request.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.timed: list[Timed] = []
        self._due = self._sent = 0.0

    def send(self, due: float) -> None:
        """Begin to ask."""
        self._due, self._sent = due, now()
        self.connection.send()

    def note_answer(self) -> None:
        """Note that the answer is there."""
        self.timed.append(Timed(self._due, self._sent, now()))


def ask_once(form: Form, port: int, path: str, n: int) -> np.ndarray:
    """Ask a server once for the PDFs of n cutouts; give them, shape (n, n_bins)."""
    with selectors.DefaultSelector() as selector:
        connection = form.connect(port, path, selector, *cutouts(n))
        try:
            connection.send()
            _wait_for(connection, selector)
            return form.pdfs(*connection.reply(), n)
        finally:
            connection.close()


def _wait_for(connection: Connection, selector: selectors.BaseSelector) -> None:
    while connection not in list(_answered(selector)):
        pass


def keep_asking(clients: list[Client], selector: selectors.BaseSelector, end: float) -> None:
    """Let each client ask again as soon as it is answered, until `end`; then wait for what is under way."""
    owners = {client.connection: client for client in clients}
    for client in clients:
        client.send(now())
    waiting = len(clients)
    while waiting:
        for connection in _answered(selector):
            client = owners[connection]
            client.note_answer()
            if (time_now := now()) < end:
                client.send(time_now)
            else:
                waiting -= 1


def ask_at(clients: list[Client], selector: selectors.BaseSelector, due: deque[float]) -> None:
    """Send a request at each of the given times, by whichever client is free; if none is, it waits."""
    owners = {client.connection: client for client in clients}
    free, waiting = deque(clients), 0
    while due or waiting:
        while due and free and due[0] <= now():
            free.popleft().send(due.popleft())
            waiting += 1
        pause = max(due[0] - now(), 0.0) if due and free else STALLED
        for connection in _answered(selector, pause):
            owners[connection].note_answer()
            free.append(owners[connection])
            waiting -= 1


def _answered(selector: selectors.BaseSelector, timeout: float = STALLED) -> Iterator[Connection]:
    ready = selector.select(timeout)
    if not ready and timeout == STALLED:
        raise BadReply(f"no reply for {STALLED:.0f} s")
    for key, events in ready:
        if key.data.advance(events):
            yield key.data


def summarise(timed: list[Timed], images: int, start: float, end: float, processor_s: float) -> Report:
    """Describe what happened between `start` and `end`.

    Parameters
    ----------
    timed : list of Timed
        All requests.
    images : int
        In each of them.
    start, end : float
        The measured time.
    processor_s : float
        That the generator used for all of them.
    """
    due, sent, answered = np.array([(one.due, one.sent, one.answered) for one in timed]).T
    inside = np.minimum(answered, end) - np.maximum(sent, start)
    share = np.clip(inside / (answered - sent), 0.0, 1.0)
    counted = (due >= start) & (due < end)
    milliseconds = 1e3 * (answered - due)[counted]
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return Report(
        images_per_s=images * float(share.sum()) / (end - start),
        requests=int(counted.sum()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        max_ms=float(milliseconds.max()),
        late_p99_ms=float(np.percentile(1e3 * (sent - due)[counted], 99)),
        generator_ms=1e3 * processor_s / len(timed),
    )


def run(form: Form, chosen: argparse.Namespace) -> Report:
    """Run the load that the arguments of this script describe."""
    # select() takes microseconds, epoll() whole milliseconds: too coarse for arrivals, and slower is no matter there.
    selector = selectors.SelectSelector() if chosen.rate else selectors.DefaultSelector()
    n = chosen.images
    asked = [cutouts(n, first=n * number) for number in range(chosen.clients)]
    clients = [Client(form.connect(chosen.port, chosen.path, selector, *pair)) for pair in asked]
    first = [_first_pdfs(client.connection, selector, form, n) for client in clients]
    gc.disable()  # a pause here would be counted against the server
    began, start = time.process_time(), now() + chosen.warm_up
    end = start + chosen.seconds
    if chosen.rate:
        ask_at(clients, selector, arrivals(chosen.rate, start - chosen.warm_up, end))
    else:
        keep_asking(clients, selector, end)
    processor_s = time.process_time() - began
    for client, pdfs in zip(clients, first, strict=True):
        _compare(form.pdfs(*client.connection.reply(), n), pdfs)
    return summarise([one for client in clients for one in client.timed], n, start, end, processor_s)


def arrivals(rate: float, start: float, end: float) -> deque[float]:
    """Draw when requests come: a Poisson process of this rate between start and end, the same each time; seconds."""
    rng = np.random.default_rng(0)
    gaps = rng.exponential(1.0 / rate, int(2 * rate * (end - start)) + 100)
    times = start + np.cumsum(gaps)
    return deque(times[times < end].tolist())


def _first_pdfs(connection: Connection, selector: selectors.BaseSelector, form: Form, n: int) -> np.ndarray:
    connection.send()
    _wait_for(connection, selector)
    pdfs = form.pdfs(*connection.reply(), n)
    if len(pdfs) != n or not np.allclose(pdfs.sum(axis=1), 1.0, atol=1e-3):
        raise BadReply(f"expected {n} PDFs whose sums are 1, got shape {pdfs.shape}, sums {pdfs.sum(axis=1)}")
    return pdfs


def _compare(pdfs: np.ndarray, expected: np.ndarray) -> None:
    if pdfs.shape != expected.shape or np.abs(pdfs - expected).max() > SAME:
        raise BadReply("the same request brought other PDFs under load than at first")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v2/models/photoz/infer")
    parser.add_argument("--form", choices=FORMS, default="v2")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--images", type=int, default=64, help="in one request")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before those that count")
    parser.add_argument(
        "--rate", type=float, help="requests per second that come at random, whether or not they can be met"
    )
    chosen = parser.parse_args()
    try:
        report = run(FORMS[chosen.form], chosen)
    except (BadReply, OSError) as error:
        sys.exit(f"load on port {chosen.port}: {error}")
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
