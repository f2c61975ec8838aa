"""How many threads each side gets: all cores for the network, whoever runs it."""

from service.machine import available_cpus
from service.settings import ONE_THREAD

_CPUS = str(available_cpus())

# The engine of a bundle, whether it runs in the service, in the prototype or alone.
ENGINE = {"PHOTOZ_THREADS": _CPUS, **ONE_THREAD}

# TensorFlow, whether it runs alone or in a peer.
TENSORFLOW = {
    "TF_NUM_INTRAOP_THREADS": _CPUS,
    "OMP_NUM_THREADS": _CPUS,  # Ray sets it to its own count otherwise
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}
