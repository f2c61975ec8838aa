"""What stands between the network and the endpoints: ASGI layers and the connection itself. No endpoint, no model."""
