"""Finds out what a store can do by trying it, at every start and for `gateway doctor`.

Everything is tried on throw-away keys under `.gateway/probe/`, which are deleted again, with the
same code that uploads use: a store passes for what it does, not for what it claims to be. About
5 MiB are sent. Limits that cannot be tried cheaply (part sizes, number of parts, the largest
object) are taken to be Amazon's, but where a store is known for others.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from gateway.core.checksums import ALGORITHMS, PREFERENCE, Checksum
from gateway.core.model import StorageLimits, StoredObject
from gateway.core.plan import MIB, PartLimits
from gateway.errors import Conflict, GatewayError, reason_of
from gateway.storage.s3.bucket import bucket_exists
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.cors import check_cors
from gateway.storage.s3.errors import translated
from gateway.storage.s3.findings import Finding, Level, ProbeReport
from gateway.storage.s3.trial import PREFIX, Trial

# S3 refuses requests from clocks further apart (.../API/ErrorResponses.html).
_MAX_SKEW = 15 * 60
_WARN_SKEW = 60
_FIRST = b"0123456789abcdef" * (5 * MIB // 16)
_SECOND = b"!"
_TINY = b"x"

# Cloudflare R2 wants equal parts, and its largest object is 4.995 TiB
# (developers.cloudflare.com/r2/platform/limits).
_KNOWN_LIMITS = {
    ".r2.cloudflarestorage.com": PartLimits(
        max_object_size=int(4.995 * 1024 * 1024 * MIB), equal_parts=True
    )
}


@dataclass(slots=True)
class _Found:
    findings: list[Finding] = field(default_factory=list)
    part_checksums: set[str] = field(default_factory=set)
    object_checksums: set[str] = field(default_factory=set)
    part_etag_is_md5: bool = False
    object_etag_is_md5_of_md5s: bool = False
    conditional_complete: bool = False

    def add(self, name: str, detail: str, *, good: bool = True, fix: str = "") -> None:
        self.findings.append(Finding(name, Level.OK if good else Level.WARN, detail, fix))


async def probe(client: S3Client, bucket: str, *, origins: Sequence[str] = ()) -> ProbeReport:
    """Try what the store can do; `origins` are those of pages that upload by presigned URLs.

    Never raises for what a store does or fails to do: that is in the report, whose `usable` tells
    whether uploads can work. Every step is bounded by the client's own timeouts.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    found = _Found()
    try:
        await _try_all(client, bucket, origins, found)
    except GatewayError as error:
        found.findings.append(_failure(client, error))
    limits = StorageLimits(
        parts=_part_limits(client),
        part_checksums=frozenset(found.part_checksums),
        object_checksums=frozenset(found.object_checksums),
        part_etag_is_md5=found.part_etag_is_md5,
        object_etag_is_md5_of_md5s=found.object_etag_is_md5_of_md5s,
        conditional_complete=found.conditional_complete,
    )
    return ProbeReport(limits, tuple(found.findings), loop.time() - started)


def _failure(client: S3Client, error: GatewayError) -> Finding:
    """Tell where it was tried and what came of it, as far as anybody said."""
    endpoint, reason = client.options.endpoint, reason_of(error)
    place = f"{endpoint.scheme}://{endpoint.authority}" + (f": {reason}" if reason else "")
    hint = error.hint
    if error.retryable and reason:
        hint = "Start the store, or correct s3_endpoint; firewalls and proxies look like this too."
    return Finding("store", Level.FAIL, f"{error.message} ({place})", hint)


async def _try_all(client: S3Client, bucket: str, origins: Sequence[str], found: _Found) -> None:
    found.findings.append(await _clock(client))
    if not await bucket_exists(client, bucket):
        found.findings.append(
            Finding(
                "bucket",
                Level.FAIL,
                f"There is no bucket {bucket}.",
                "Create it, or correct the setting s3_bucket.",
            )
        )
        return
    found.add("bucket", f"{bucket} is there.")
    # One after another: a store that is slow to answer shall not take load for a refusal.
    for algorithm in PREFERENCE:
        await _checksum(client, bucket, algorithm, found)
    _report_checksums(found)
    await _two_parts(client, bucket, found)
    found.findings += await check_cors(client, bucket, f"{PREFIX}cors", origins)


async def _clock(client: S3Client) -> Finding:
    """Compare clocks by a request without a signature, which no skew makes invalid."""
    options = client.options
    endpoint = options.endpoint
    timeout = aiohttp.ClientTimeout(
        total=options.read_timeout, sock_connect=options.connect_timeout
    )
    with translated("clock"):
        async with client.http.head(
            f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}/",
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            date = response.headers.get("date", "")
    try:
        skew = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return Finding("clock", Level.WARN, "The store does not tell its time.")
    fix = "Synchronise the clocks of gateway and store with NTP."
    detail = f"The clocks differ by {abs(skew):.0f} s."
    if abs(skew) >= _MAX_SKEW:
        return Finding("clock", Level.FAIL, detail, fix)
    if abs(skew) >= _WARN_SKEW:
        return Finding("clock", Level.WARN, detail, fix)
    return Finding("clock", Level.OK, detail)


async def _checksum(client: S3Client, bucket: str, algorithm: str, found: _Found) -> None:
    """Send one byte with a wrong and with its right checksum, and see what is kept."""
    trial = _trial(client, bucket, algorithm)
    kind = ALGORITHMS[algorithm]
    right = Checksum(algorithm, kind.value_of(_TINY))
    wrong = Checksum(algorithm, kind.value_of(_SECOND))
    try:
        upload = await trial.create(algorithm)
        if await trial.put_part(upload, 1, _TINY, checksum=wrong) is not None:
            return
        part = await trial.put_part(upload, 1, _TINY, checksum=right)
        if part is None:
            return
        found.part_checksums.add(algorithm)
        stored = await trial.complete(upload, [part], algorithm)
        if kind.combinable and stored.checksums.get(algorithm) == right.value:
            found.object_checksums.add(algorithm)
    except GatewayError as error:
        # A store that does not know the algorithm says so in many ways; one that is down says the
        # same again in the next step.
        if error.retryable:
            raise
    finally:
        await _clear(trial, found)


def _report_checksums(found: _Found) -> None:
    parts = [name for name in PREFERENCE if name in found.part_checksums]
    found.add(
        "part checksums",
        f"verified: {', '.join(parts)}" if parts else "The store verifies none.",
        good=bool(parts),
        fix="" if parts else "Bytes damaged on their way are found by reading objects back only.",
    )
    whole = [name for name in PREFERENCE if name in found.object_checksums]
    found.add(
        "object checksums",
        f"reported for whole objects: {', '.join(whole)}" if whole else "The store reports none.",
        good=bool(whole),
        fix="" if whole else "Objects are read back to verify them; a newer store saves that.",
    )


async def _two_parts(client: S3Client, bucket: str, found: _Found) -> None:
    """Complete an object of two parts: see its ETags, the whole's checksum, and conditions."""
    algorithm = next((name for name in PREFERENCE if name in found.object_checksums), PREFERENCE[0])
    trial = _trial(client, bucket, algorithm)
    try:
        upload = await trial.create(algorithm)
        refused = await trial.put_part(upload, 2, _SECOND * 2, signed_size=1) is None
        found.add(
            "signed size",
            "A part URL takes the size it was signed for."
            if refused
            else "A part URL takes any size.",
            good=refused,
            fix=""
            if refused
            else "Sizes are checked before completion, but a client can send "
            "more than it said: bound it in a proxy.",
        )
        first = await trial.put_part(upload, 1, _FIRST)
        second = await trial.put_part(upload, 2, _SECOND)
        if first is None or second is None:
            found.findings.append(
                Finding(
                    "parts",
                    Level.FAIL,
                    "The store refuses a part by a presigned URL.",
                    "Check permissions, region, endpoint and addressing style.",
                )
            )
            return
        stored = await trial.complete(upload, [first, second], algorithm)
        await _compare(stored, [first.etag, second.etag], algorithm, found)
        await _condition(trial, algorithm, found)
    finally:
        await _clear(trial, found)


async def _compare(stored: StoredObject, etags: list[str], algorithm: str, found: _Found) -> None:
    digests = await asyncio.to_thread(
        lambda: [hashlib.md5(body, usedforsecurity=False) for body in (_FIRST, _SECOND)]
    )
    whole = hashlib.md5(b"".join(d.digest() for d in digests), usedforsecurity=False).hexdigest()
    found.part_etag_is_md5 = etags == [digest.hexdigest() for digest in digests]
    found.object_etag_is_md5_of_md5s = stored.etag == f"{whole}-2"
    found.add(
        "ETags",
        f"Of a part: {'its MD5' if found.part_etag_is_md5 else 'opaque'}; of an object: "
        f"{'the MD5 of MD5s' if found.object_etag_is_md5_of_md5s else 'opaque'}.",
    )
    kind = ALGORITHMS[algorithm]
    if algorithm in found.object_checksums:
        expected = await asyncio.to_thread(kind.value_of, _FIRST + _SECOND)
        if stored.checksums.get(algorithm) != expected:
            # Right for one part and wrong for two is a checksum of checksums under a false name.
            found.object_checksums.clear()
            found.add(
                "object checksum of two parts",
                "It is not that of the whole object.",
                good=False,
                fix="Objects are read back to verify them; a newer store saves that.",
            )


async def _condition(trial: Trial, algorithm: str, found: _Found) -> None:
    """Complete a second upload under the same key, on condition that nothing is there."""
    upload = await trial.create(algorithm)
    part = await trial.put_part(upload, 1, _TINY)
    if part is not None:
        try:
            await trial.complete(upload, [part], algorithm, if_none_match=True)
        except Conflict as error:
            found.conditional_complete = error.code == "key_taken"
    found.add(
        "conditional completion",
        "An object that is there is never overwritten."
        if found.conditional_complete
        else "The store ignores If-None-Match.",
        good=found.conditional_complete,
        fix="" if found.conditional_complete else "Let nobody else write below the gateway's keys.",
    )


def _trial(client: S3Client, bucket: str, algorithm: str) -> Trial:
    # Declared as a store that can do everything would have it; it is seen what comes of that.
    wish = frozenset({algorithm})
    return Trial(client, bucket, StorageLimits(part_checksums=wish, object_checksums=wish))


async def _clear(trial: Trial, found: _Found) -> None:
    problem = await trial.clear()
    if problem is not None:
        found.add(
            "clean-up",
            f"{trial.key} may be left: {problem}",
            good=False,
            fix=f"Delete what lies under {PREFIX}.",
        )


def _part_limits(client: S3Client) -> PartLimits:
    authority = client.options.endpoint.authority
    for suffix, limits in _KNOWN_LIMITS.items():
        if authority.endswith(suffix):
            return limits
    return PartLimits()
