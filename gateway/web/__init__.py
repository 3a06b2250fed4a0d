"""HTTP plumbing that all doors share: limits, request ids, errors, authentication, CORS, health."""
