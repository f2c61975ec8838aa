"""One address before several servers, as a Service of Kubernetes is: `python -m benchmarks.endurance.proxy`.

Each new connection goes to one of the servers that are known to be ready, drawn at random; one that stands stays where
it is. As the kubelet does, it asks each server's /readyz at an interval; what it hears is gone by only after a delay,
in which the endpoints' controller and kube-proxy learn of it. Where nobody is ready, or nobody takes the connection,
the caller's is reset: the kernel would refuse it.

It runs in a process of its own, so that nothing else keeps a farewell from its caller. That process takes orders on its
standard input ("add PORT", "drop PORT"), says on its standard output what happens ("listening PORT", "ready PORT",
"unready PORT", "refused PORT"), and ends with its input.
"""

import argparse
import asyncio
import contextlib
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable

from benchmarks.endurance.checks import ready
from benchmarks.endurance.client import CHUNK, RESET, Connection, Lost, NotHttp, Refused
from service.settings import ROOT

PROBE = 1.0  # seconds between two questions, and for an answer: periodSeconds and timeoutSeconds
PROPAGATION = 0.5  # seconds from an answer to those who send connections
NOBODY = 0  # stands for the port where no server is ready


class Proxy:
    """Takes connections and passes them on.

    Parameters
    ----------
    probe, propagation : float
        Seconds between two questions to a server, and until an answer is gone by.
    tell : callable
        Is told what happens, in a word, and the port of the server.
    """

    def __init__(self, probe: float, propagation: float, tell: Callable[[str, int], None] = lambda what, port: None):
        self._probe, self._propagation, self._tell = probe, propagation, tell
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._ready: list[int] = []
        self._carrying: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Take connections on a port of this machine, which is given, as long as the context lasts."""
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            listener.setblocking(False)
            accepting = asyncio.create_task(self._accept(listener))
            try:
                yield listener.getsockname()[1]
            finally:
                tasks = [accepting, *self._watches.values(), *self._carrying]
                self._watches.clear()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, port: int) -> None:
        """Begin to ask whether a server is ready; it need not listen yet."""
        self._watches[port] = asyncio.create_task(self._watch(port))

    def drop(self, port: int) -> None:
        """Send nothing more to a server, and ask it no more."""
        self._watches.pop(port).cancel()
        self._learn(port, False)

    def _learn(self, port: int, is_ready: bool) -> None:
        if is_ready != (port in self._ready) and (port in self._watches or not is_ready):
            (self._ready.append if is_ready else self._ready.remove)(port)
            self._tell("ready" if is_ready else "unready", port)

    async def _watch(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while port in self._watches:  # asyncio.wait_for of Python 3.11 may lose a cancellation
            loop.call_later(self._propagation, self._learn, port, await _is_ready(port, max(self._probe, 1.0)))
            due = max(due + self._probe, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            caller, _ = await asyncio.get_running_loop().sock_accept(listener)
            task = asyncio.create_task(self._serve(caller))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _serve(self, caller: socket.socket) -> None:
        port = random.choice(self._ready) if self._ready else NOBODY
        with caller, socket.socket() as server:
            for one in (caller, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", port))
            except OSError:
                self._tell("refused", port)
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            await _carry_both_ways(caller, server)


async def _is_ready(port: int, timeout: float) -> bool:
    try:
        connection = await Connection.open(port)
    except Refused:
        return False
    try:
        return (await connection.ask(ready(), timeout)).status == 200
    except (Lost, NotHttp):
        return False
    finally:
        connection.close()


async def _carry_both_ways(caller: socket.socket, server: socket.socket) -> None:
    """Pass on what both say, until both have ended; a reset as a reset."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(caller, server))
            group.create_task(_carry(server, caller))
    except* OSError:
        for one in (caller, server):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def _carry(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while part := await loop.sock_recv(source, CHUNK):
        await loop.sock_sendall(target, part)
    target.shutdown(socket.SHUT_WR)


class Address:
    """The proxy in a process of its own; only `open_address` makes them.

    Attributes
    ----------
    port : int
        That callers connect to.
    refusals : collections.Counter of int
        How many connections nobody took, by the server's port; by 0 those for which none was ready.
    """

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port
        self._ready: set[int] = set()
        self._news = asyncio.Condition()
        self.refusals: Counter[int] = Counter()

    def add(self, port: int) -> None:
        """Let it ask a server whether it is ready."""
        self._order(f"add {port}\n")

    def drop(self, port: int) -> None:
        """Let it forget a server."""
        self._order(f"drop {port}\n")

    async def wait_for(self, port: int, timeout: float = 60.0) -> None:
        """Wait until connections are sent to a server; `TimeoutError` if that does not come."""
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(lambda: port in self._ready)

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(line.encode())

    async def listen(self) -> None:
        """Take in what the process says, until it ends."""
        assert self._process.stdout is not None  # it is a pipe
        while line := await self._process.stdout.readline():
            what, port = line.decode().split()
            async with self._news:
                if what == "refused":
                    self.refusals[int(port)] += 1
                elif what == "ready":
                    self._ready.add(int(port))
                else:
                    self._ready.discard(int(port))
                self._news.notify_all()


@contextlib.asynccontextmanager
async def open_address(probe: float, propagation: float) -> AsyncIterator[Address]:
    """Run the proxy as long as the context lasts; the parameters are those of `Proxy`."""
    command = ("-m", "benchmarks.endurance.proxy", f"--probe={probe}", f"--propagation={propagation}")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        _, port = (await process.stdout.readline()).split()
        address = Address(process, int(port))
        listening = asyncio.create_task(address.listen())
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # there is nothing that it would have to finish
        await process.wait()
        process.stdin.close()
    await listening


def _say(what: str, port: int) -> None:
    print(what, port, flush=True)


async def _obey(proxy: Proxy) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with proxy.listening() as port:
        _say("listening", port)
        while line := await orders.readline():
            order, server = line.decode().split()
            {"add": proxy.add, "drop": proxy.drop}[order](int(server))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance.proxy")
    parser.add_argument("--probe", type=float, default=PROBE, help="seconds between two questions to a server")
    parser.add_argument("--propagation", type=float, default=PROPAGATION, help="seconds until an answer is gone by")
    chosen = parser.parse_args()
    asyncio.run(_obey(Proxy(chosen.probe, chosen.propagation, _say)))


if __name__ == "__main__":
    main()
