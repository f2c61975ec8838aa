"""Other servers of the same model.keras, each tuned as its documentation advises, compared with the service."""
