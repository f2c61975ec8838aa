"""What every benchmark shares: server processes, load clients, results."""
