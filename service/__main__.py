"""Start the service: `python -m service`."""

import os
import signal

if __name__ == "__main__":
    # Process 1 of a container does not get a SIGTERM for which it has no handler, and what is imported next takes a
    # quarter of a second, BentoML seconds more until it has a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    from service.serve import main

    main()
