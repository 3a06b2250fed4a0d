"""Starts real servers out of installed wheels: Valkey for state, SeaweedFS for objects.

They serve `gateway dev` and the tests, on loopback and for one user. Nothing here promises
replication, backups, or protection from other users of the same machine.
"""

from gateway.embedded.ports import free_port
from gateway.embedded.seaweed import Seaweed
from gateway.embedded.valkey import Valkey

__all__ = ["Seaweed", "Valkey", "free_port"]
