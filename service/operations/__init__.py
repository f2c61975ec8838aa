"""Running the service: settings, logs, metrics, traces and the resources of the process."""
