"""Looks at a file's first bytes, and asks the policy whether such a file is taken.

Bytes that pass through the gateway are looked at on the way; of those that went straight to the
store the beginning is read back. It decides nothing more: the completer moves the session.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

from gateway.core.content.policy import ContentPolicy
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


async def judged(
    policy: ContentPolicy,
    filename: str,
    content_type: str,
    body: AsyncIterable[bytes],
    *,
    size: int | None,
    whole: bool,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a file's beginning, none of them before the policy has taken it.

    `size` is that of the whole file, where it is known; `whole` says that the body is all of it.
    A body that ends before there is enough to judge by passes: the object is judged at the end.
    Raises UnsupportedType `content_not_allowed`, and what the body raises.
    """
    head = bytearray()
    taken = policy.first_bytes(filename, content_type) == 0
    async for block in body:
        if taken:
            yield block
            continue
        head += block
        taken = policy.check_first_bytes(filename, content_type, bytes(head), size=size) == 0
        if taken:
            yield bytes(head)
    if not taken:
        if whole:
            policy.check_first_bytes(filename, content_type, bytes(head), size=len(head))
        yield bytes(head)
