"""Other ways to serve the same model.keras, each as its own documentation advises, beside the service."""
