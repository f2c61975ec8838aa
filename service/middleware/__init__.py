"""ASGI middleware in front of the endpoints: admission, memory budget, API keys, request bodies and errors."""
