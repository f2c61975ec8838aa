"""The process that starts the worker again: BentoML's, which is circus's, with its faults mended.

- BentoML looks every ten seconds whether its worker lives, while callers wait: here it is four times a second.
- In a container it does not start a worker again at all, and ends with a trace.
- On SIGTERM circus ends the worker's children at once: a report that is being drawn would be lost.
- circus takes orders, to run any command among them, on a TCP port of the loopback, from anyone on the machine: here
  on a Unix socket that its owner alone can open.
- An order to end that comes while circus does something else, such as to start the worker, is lost.
- A port that is taken ends in a trace.
- BentoML reports its use to its maker unless told not to: here it does so only if told to.

(bentoml 1.4.39, bentoml/_internal/utils/circus/__init__.py and bentoml/serving.py; circus 0.19)
"""

import errno
import ipaddress
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from bentoml._internal.utils import circus as bentomls
from bentoml._internal.utils.analytics import usage_stats

from service.settings import CANNOT_START, Settings

logger = logging.getLogger("bentoml.photoz")

CHECK_EVERY = 0.25  # seconds

# A worker that says so often in a row that it cannot start will not start the next time either.
HOPELESS = 3

# It is what the system does when a container's memory is used up; nobody tells the process.
OUT_OF_MEMORY = " (killed; for want of memory? docs/operations.md#size)"

HTTP_SOCKET = "_bento_api_server"  # its name in BentoML (_bentoml_impl/server/serving.py)

Order = tuple[bytes | None, str]  # who gives it, None for a signal; and what, as JSON

OPEN_TO_ALL = (
    "ANYBODY WHO REACHES %s MAY USE THIS SERVICE: it listens beyond this machine and asks for no key. "
    "Set PHOTOZ_API_KEYS_FILE (docs/operations.md), listen on 127.0.0.1, or close the network."
)


class Supervisor(bentomls.Arbiter):  # type: ignore[misc]
    """Starts the worker, and starts it again when it ends.

    Parameters
    ----------
    watchers : list of circus.watcher.Watcher
        The worker's.
    **options
        As BentoML gives them.
    """

    def __init__(self, watchers: list[Any], **options: Any) -> None:
        self._folder = tempfile.mkdtemp(prefix="photoz-")  # 0700: no other user gets at the sockets in it
        places = {"endpoint": f"ipc://{self._folder}/orders", "pubsub_endpoint": f"ipc://{self._folder}/news"}
        super().__init__(watchers, **(options | places | {"check_delay": CHECK_EVERY}))
        self._failed_starts = 0
        self.ctrl.dispatch = self._insisting(self.ctrl.dispatch)
        for watcher in watchers:
            watcher.respawn = True
            watcher.stop_children = False  # the worker ends its own, when it is done with them
            watcher.hooks["after_reap"] = self._note_end

    def start(self, cb: Any = None) -> None:
        """Run until told to end."""
        self._warn_if_open_to_all()
        logging.getLogger("circus").setLevel(logging.CRITICAL)  # what goes wrong is said here
        try:
            super().start(cb)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            address = self.sockets[HTTP_SOCKET]
            sys.exit(f"photoz: cannot listen on {address.host}:{address.port}: {os.strerror(error.errno)}")
        except RuntimeError:  # "No active process found for watcher"
            if self._failed_starts < HOPELESS:
                raise
            sys.exit(f"photoz: the worker could not start, {HOPELESS} times in a row; it said why")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _insisting(self, dispatch: Callable[[Order], None]) -> Callable[[Order], None]:
        """Let an order of a signal be given again until it is carried out."""

        def insisting(order: Order) -> None:
            dispatch(order)
            sender, _ = order
            if sender is None and not self._stopping:
                self.loop.call_later(0.1, insisting, order)

        return insisting

    def _warn_if_open_to_all(self) -> None:
        host = self.sockets[HTTP_SOCKET].host
        if not ipaddress.ip_address(host).is_loopback and not Settings.from_environment().keys_file:
            logger.warning(OPEN_TO_ALL, host)

    def _note_end(self, watcher: Any, arbiter: Any, hook_name: str, **about: Any) -> bool:
        """Say that a worker has ended; `circus.watcher.Watcher.reap_process` calls this."""
        if self._stopping:
            return True
        status = about.get("exit_code")
        why = OUT_OF_MEMORY if status == -signal.SIGKILL else ""
        logger.error("the worker, process %s, ended with %s%s; starting another", about["process_pid"], status, why)
        self._failed_starts = self._failed_starts + 1 if status == CANNOT_START else 0
        watcher.respawn = self._failed_starts < HOPELESS  # an arbiter without workers ends
        return True


def take_the_place_of_bentomls() -> None:
    """Let BentoML supervise its workers with this one; it looks its own up by this name later."""
    bentomls.Arbiter = Supervisor
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    usage_stats.do_not_track.cache_clear()  # it asked the environment before we were loaded
