"""The older chunk APIs, kept exactly: small chunks as form posts (A, B), and numbered parts (C, D)."""

from gateway.doors.chunks.routes import ChunksDoor, ChunksOptions

__all__ = ["ChunksDoor", "ChunksOptions"]
