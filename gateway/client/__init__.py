"""The Python client: sends files to a gateway so that they survive any interruption.

`GatewayClient` speaks the native API, one method a verb; `Uploader` and `Downloader` stand on it.
What is exported here is the API; errors are those of `gateway.errors`. Nothing here is server
code: of ours it knows the checksums, the part plan and the errors.
"""

from gateway.client.api import GatewayClient, PartToAcknowledge, PartToSign
from gateway.client.downloader import Downloader
from gateway.client.events import ServerEvent
from gateway.client.model import (
    CLOSED,
    FAILED,
    SETTLED,
    Content,
    ObjectReceipt,
    Session,
    SignedPart,
    StoredPart,
)
from gateway.client.options import MAX_PARALLEL, DownloadOptions, UploadOptions
from gateway.client.progress import Progress
from gateway.client.receipts import DownloadReceipt, UploadReceipt
from gateway.client.route import RelayChoice
from gateway.client.transfer import Tally
from gateway.client.uploader import Uploader
from gateway.core.checksums import Checksum

__all__ = [
    "CLOSED",
    "FAILED",
    "MAX_PARALLEL",
    "SETTLED",
    "Checksum",
    "Content",
    "DownloadOptions",
    "DownloadReceipt",
    "Downloader",
    "GatewayClient",
    "ObjectReceipt",
    "PartToAcknowledge",
    "PartToSign",
    "Progress",
    "RelayChoice",
    "ServerEvent",
    "Session",
    "SignedPart",
    "StoredPart",
    "Tally",
    "UploadOptions",
    "UploadReceipt",
    "Uploader",
]
