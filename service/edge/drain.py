"""The end of a worker: nobody who was let in is sent away.

On SIGTERM readiness turns first, while requests are still taken, so that whoever sends them here can learn of it; each
answer asks to close its connection. Then no new connection is taken, those that stand have a moment to send what they
were about to, and uvicorn finishes what is in flight.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

logger = logging.getLogger("bentoml.photoz")

# Seconds for a request that is on the wire when the last connection was taken.
LAST_CALL = 0.5

# Seconds in which what came on a connection that was idle until then is read.
LAST_LOOK = 0.1

Handler = Callable[[int, FrameType | None], Any]


class Drain:
    """Whether the end has begun."""

    def __init__(self) -> None:
        self.begun = False
        self._end: asyncio.Task[None] | None = None

    def take_the_signal(self, seconds: float) -> None:
        """Stand before the handler of SIGTERM that is there, which is uvicorn's.

        Parameters
        ----------
        seconds : float
            Between the signal and the last new connection.
        """
        uvicorns = signal.getsignal(signal.SIGTERM)
        if not callable(uvicorns) or not hasattr(uvicorns, "__self__"):
            return  # another server than uvicorn, or a test: it ends as it likes
        loop = asyncio.get_running_loop()

        def begin(signum: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._begin, uvicorns, seconds)

        signal.signal(signal.SIGTERM, begin)

    def _begin(self, uvicorns: Handler, seconds: float) -> None:
        if not self.begun:
            self.begun = True
            self._end = asyncio.get_running_loop().create_task(_end(uvicorns, seconds))


async def _end(uvicorns: Handler, seconds: float) -> None:
    logger.info("ending: readiness is off, new connections are taken for another %g s", seconds)
    try:
        await asyncio.sleep(seconds)
        await _farewell(uvicorns.__self__)  # type: ignore[attr-defined]
    finally:  # whatever went wrong, it ends
        uvicorns(signal.SIGTERM, None)


async def _farewell(server: Any) -> None:
    for listening in server.servers:
        for one in listening.sockets:
            await _close(one.fileno(), server)
    await asyncio.sleep(LAST_CALL)
    for connection in list(server.server_state.connections):
        _end_if_idle(connection)
    await asyncio.sleep(LAST_LOOK)


def _end_if_idle(connection: Any) -> None:
    """Say farewell on a connection on which nothing is asked, at once after a look whether something has come.

    uvicorn closes all of them in one go without a look: what came since it last read would be reset.
    """
    transport = connection.transport
    if not connection.is_idle or transport.is_closing() or transport.get_write_buffer_size():
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as one:
        try:
            one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            one.shutdown(socket.SHUT_WR)
            transport.close()


async def _close(fileno: int, server: Any) -> None:
    """Let a socket listen no more, in all processes that hold it: who comes now is refused at once, not left waiting.

    Whoever is in its queue would be reset by that, so they are taken out just before.
    """
    waiting = []
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as listener:
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(listener.accept()[0])
        listener.shutdown(socket.SHUT_RDWR)
    for connection in waiting:
        with contextlib.suppress(OSError):  # it has gone meanwhile
            await asyncio.get_running_loop().connect_accepted_socket(lambda: _protocol(server), connection)


def _protocol(server: Any) -> asyncio.Protocol:
    """Make what uvicorn makes for each connection (uvicorn.Server.startup)."""
    made: asyncio.Protocol = server.config.http_protocol_class(
        config=server.config, server_state=server.server_state, app_state=server.lifespan.state
    )
    return made
