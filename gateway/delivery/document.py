"""The one JSON document of an event, the same in the stream and in the body of a webhook.

Its facts are those of the session at the time of handing on. Every state that makes an event is
final but `corrupt`: an upload that was verified again meanwhile is told as what it has become, and
`state` then differs from the event's `type`.
"""

import orjson

from gateway.core.events import Event
from gateway.core.model import UploadSession
from gateway.core.record import time_to_text


def event_document(event: Event, session: UploadSession) -> bytes:
    """Return the document as JSON: times in RFC 3339, sizes in bytes, checksums base64."""
    stored, problem = session.object, session.error
    return orjson.dumps(
        {
            "id": event.event_id,
            "type": event.type.value,
            "time": time_to_text(event.at),
            "session_id": event.session_id,
            "owner": event.owner,
            "state": session.state.value,
            "filename": session.filename,
            "content_type": session.content_type,
            "size": session.size if stored is None else stored.size,
            "bucket": session.upload.bucket,
            "key": session.upload.key,
            "etag": stored.etag if stored else None,
            "checksums": dict(stored.checksums) if stored else {},
            "verified_by": session.verified_by.value if session.verified_by else None,
            "metadata": dict(session.metadata),
            "error": {"code": problem.code, "message": problem.message, "hint": problem.hint}
            if problem
            else None,
        }
    )
