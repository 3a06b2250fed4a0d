"""The front doors: one folder a wire protocol. They see the service, and never each other."""
