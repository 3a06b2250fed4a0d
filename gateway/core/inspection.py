"""Looks at a stored object's first bytes, and asks the policy whether such a file is taken.

For bytes that went straight to the store, which nobody saw on the way. It decides nothing more:
the completer moves the session.
"""

from contextlib import aclosing

from gateway.core.content import ContentPolicy
from gateway.core.model import Problem, StoredObject, UploadSession
from gateway.core.ports import ObjectStore


async def inspect(
    policy: ContentPolicy, session: UploadSession, stored: StoredObject, objects: ObjectStore
) -> Problem | None:
    """Return why the object is refused, or None; the store is asked for what the policy wants.

    Raises what `ObjectStore.read` raises: that says nothing about the object.
    """
    problem = policy.judge_size(stored.size)
    if problem is not None:
        return problem
    wanted = min(policy.first_bytes(session.filename, session.content_type), stored.size)
    head = bytearray()
    if wanted:
        async with aclosing(
            objects.read(stored.bucket, stored.key, start=0, stop=wanted, if_match=stored.etag)
        ) as blocks:
            async for block in blocks:
                head += block
    return policy.judge(session.filename, session.content_type, bytes(head), size=stored.size)
