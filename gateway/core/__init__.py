"""The rules of the gateway in plain Python: no web framework, no AWS SDK, no Redis client."""
