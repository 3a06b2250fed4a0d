"""A multipart gateway: resumable upload sessions mapped onto S3 multipart uploads."""

from importlib.metadata import version

__version__ = version("multipart-gateway")
