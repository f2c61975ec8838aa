"""The HTTP server: granian with BentoML's ASGI application, in a worker process that is restarted when it dies."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketSpec  # type: ignore[attr-defined]
from granian.server.mp import MPServer

from service.settings import HEADER_BUFFER_BYTES, ROOT, Settings
from service.startup import CANNOT_START, DRAIN_SIGNAL, bundle_path, worker_environment

logger = logging.getLogger("bentoml.photoz")

# Open files that are not connections, and the most connections, whatever the limit on files.
SPARE_FILES, MAX_CONNECTIONS = 128, 8192

UNACKNOWLEDGED_SECONDS = 30  # after which the kernel closes a connection whose client acknowledges nothing

# A BPF program (code, jumps if true and if false, operand): drop a TCP segment with the flag SYN, accept all others.
DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
SO_ATTACH_FILTER = 26  # on Linux; the module socket does not name it
ACCEPT_SECONDS = 0.1  # in which the connections that were made are accepted

MAX_FAILED_STARTS = 3  # in a row: the next would fail too

OUT_OF_MEMORY = " (killed by the system, perhaps for lack of memory: docs/operations.md#size)"

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

NO_KEYS = (
    "Listening on %s without API keys: anyone who can reach this address can use the service. "
    "Set PHOTOZ_API_KEYS_FILE (docs/operations.md), listen on 127.0.0.1, or restrict the network"
)


class PhotozServer(MPServer):
    """granian's main process: it starts the worker, restarts it when it dies, and shuts it down gracefully."""

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        super().__init__(
            "service.bento:asgi",
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            factory=True,
            workers=1,
            loop=Loops.uvloop,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=max_connections(),
            http1_settings=HTTP1Settings(
                header_read_timeout=round(1000 * settings.header_timeout),
                max_buffer_size=HEADER_BUFFER_BYTES,
            ),
            log_level=LogLevels.error,
            log_dictconfig={"loggers": {"_granian": {"handlers": [], "propagate": True}}},  # to `logs.configure`
            respawn_failed_workers=True,
            workers_kill_timeout=round(settings.transfer_timeout + settings.request_timeout) + 1,
            working_dir=ROOT,
        )
        self._drain_seconds = settings.drain_seconds
        self._failed_starts = 0
        self._shutdown: threading.Timer | None = None

    def signal_handler_interrupt(self, *arguments: Any) -> None:
        """Start graceful shutdown on SIGTERM or SIGINT: first readiness, then, after a delay, the connections."""
        if self._shutdown is not None:
            return
        for worker in self.wrks:
            with contextlib.suppress(ProcessLookupError):  # it has just died
                os.kill(worker.inner.pid, DRAIN_SIGNAL)
        end = super().signal_handler_interrupt
        for delay, call in ((0.0, self._refuse_connections), (ACCEPT_SECONDS, end)):
            self._shutdown = threading.Timer(self._drain_seconds + delay, call)
            self._shutdown.daemon = True
            self._shutdown.start()

    def _refuse_connections(self) -> None:
        """Drop what would open a connection: the kernel resets those that wait on a socket that is closed.

        A dropped segment is sent again after a second, to the process that listens by then, or is refused.
        """
        if sys.platform == "linux":
            program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in DROP_SYN))
            option = struct.pack("@HP", len(DROP_SYN), ctypes.addressof(program))
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                self._listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)

    def _init_shared_socket(self) -> None:
        """Listen in this process and share the socket, so that connections wait while a dead worker is replaced.

        By default each worker has its own socket, and connections are refused meanwhile.
        """
        holder = SocketSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._listener = listener = socket.socket(fileno=holder.get_fd())
        listener.set_inheritable(True)
        if sys.platform == "linux":  # connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNACKNOWLEDGED_SECONDS)
        listener.listen(self.backlog)
        vars(self).update(_ssp=None, _shd=holder, _sso=listener)

    def _respawn_workers(self, workers: list[int], *arguments: Any, **options: Any) -> None:
        """Restart dead workers, again and again unless they cannot start."""
        if self._shutdown is not None:
            return
        for index in workers:
            process = self.wrks[index].inner
            status = process.exitcode
            why = OUT_OF_MEMORY if status == -signal.SIGKILL else ""
            logger.error("the worker, process %s, ended with %s%s; starting another", process.pid, status, why)
            self._failed_starts = self._failed_starts + 1 if status == CANNOT_START else 0
        if self._failed_starts >= MAX_FAILED_STARTS:
            logging.shutdown()  # its lines come first
            sys.exit(f"photoz: the worker could not start {MAX_FAILED_STARTS} times in a row; the log says why")
        super()._respawn_workers(workers, *arguments, **options)
        self.respawned_wrks.clear()  # granian would give up at the second death within 5.5 s


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; raises `OSError` or `PhotozError` if the service cannot start."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    _check_folders()
    _check_port(host, port)
    os.environ.update(worker_environment())
    settings = Settings.from_environment()
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    if not settings.api_keys_file and not is_local:
        logger.warning(NO_KEYS, host)
    if is_local and not settings.trusted_proxies:  # a page of any name could be made to mean this address
        os.environ.setdefault("PHOTOZ_ALLOWED_HOSTS", ",".join(dict.fromkeys((host, *LOCAL_HOSTS))))
    signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)  # inherited by a worker until it has its own handler
    # A fork would inherit the handlers and threads of this process. `force`: the preflight has set the default.
    multiprocessing.set_start_method("spawn", force=True)
    PhotozServer(host, port, settings).serve()


def max_connections() -> int:
    """Allow this process and its workers as many files as the system does; return how many may be connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(max(hard - SPARE_FILES, 1), MAX_CONNECTIONS)


def _check_folders() -> None:
    """Make sure that temporary files and BentoML's home are writable."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OSError(f"needs a folder to write to, such as /tmp or TMPDIR: {error}") from error
    home = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError:
        if bundle := os.environ.get("PHOTOZ_BUNDLE", "").strip():
            os.environ["PHOTOZ_BUNDLE"] = str(bundle_path(Path(bundle)))  # a tag refers to the store in that home
        os.environ["BENTOML_HOME"] = tempfile.mkdtemp(prefix="photoz-")


def _check_port(host: str, port: int) -> None:
    """Raise OSError if the port is taken: granian shares a port with whoever listens on it already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error
