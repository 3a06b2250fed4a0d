"""The Python client: sends files to a gateway so that they survive any interruption.

`GatewayClient` speaks the native API, one method a verb; `Uploader` and `Downloader` stand on it.
Nothing here is server code: of ours it knows the checksums, the part plan and the errors.
"""

from gateway.client.api import GatewayClient
from gateway.client.downloader import Downloader, DownloadReceipt
from gateway.client.model import Content, Session, SignedPart, StoredPart
from gateway.client.progress import Progress
from gateway.client.uploader import Uploader, UploadOptions, UploadReceipt

__all__ = [
    "Content",
    "DownloadReceipt",
    "Downloader",
    "GatewayClient",
    "Progress",
    "Session",
    "SignedPart",
    "StoredPart",
    "UploadOptions",
    "UploadReceipt",
    "Uploader",
]
