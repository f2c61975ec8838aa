"""The command line of the service: `python -m service`."""

import os
import signal

if __name__ == "__main__":
    # Process 1 of a container does not get a SIGTERM that it has no handler for, and the imports below take a while.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    from service.cli import main

    main()
