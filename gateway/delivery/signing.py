"""Signs what is sent to webhooks, so that a receiver knows who sent it, and when.

As Standard Webhooks has it (github.com/standard-webhooks/standard-webhooks): HMAC-SHA256 over
`id.timestamp.body`. Against a replay the receiver compares the timestamp with its clock, and keeps
the ids that it has seen.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: its bytes, or behind `whsec_` those that its base64 stands for.

    Raises ValueError where that is no base64. The libraries of Standard Webhooks want the latter.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("What follows whsec_ is not base64.") from error


def signed_headers(key: bytes, event_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Return the headers that say which event this is, when it was sent, and by whom."""
    signed = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": f"v1,{signature}",
    }
