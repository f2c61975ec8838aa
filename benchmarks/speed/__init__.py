"""How fast the engine and the service are, and what they need."""
