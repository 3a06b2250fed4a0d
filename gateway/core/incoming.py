"""The bytes of one part on their way through the gateway: counted, hashed, held back at the end."""

from collections.abc import AsyncIterator, Sequence

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.claim import Claim
from gateway.core.model import UploadSession
from gateway.errors import GatewayError, InvalidRequest

MD5 = "md5"


class Incoming:
    """The bytes of one part on their way: counted, hashed, and held back at the end."""

    def __init__(
        self,
        session: UploadSession,
        body: AsyncIterator[bytes],
        length: int,
        checksums: Sequence[Checksum],
    ) -> None:
        self.length = length
        self.claim: Claim | None = None
        self._body = body
        self._promised = {checksum.algorithm: checksum.value for checksum in checksums}
        names = {session.checksum_algorithm, *self._promised}
        self._hashers = {name: ALGORITHMS[name].new() for name in names}
        self._received = 0

    @property
    def vouched(self) -> bool:
        """Whether the client has said what its bytes are."""
        return bool(self._promised)

    def hash_also(self, algorithm: str) -> None:
        """Compute this one too; before the first byte."""
        self._hashers.setdefault(algorithm, ALGORITHMS[algorithm].new())

    def promised(self, algorithm: str) -> str | None:
        """Return the client's word in this algorithm, in base64."""
        return self._promised.get(algorithm)

    def value(self, algorithm: str) -> str:
        """Return the checksum of what has arrived, in base64."""
        return self._hashers[algorithm].value()

    def md5(self) -> str:
        """Return the MD5 in hex, as stores write it into ETags."""
        return self._hashers[MD5].digest().hex()

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes; the last of them only when all that was promised has come true."""
        held = b""
        async for block in self._body:
            self._received += len(block)
            if self._received > self.length:
                raise _wrong_length(self.length)
            for hasher in self._hashers.values():
                hasher.update(block)
            if self.claim is not None:
                self.claim.moved = True
            if held:
                yield held
            held = block
        if self._received < self.length:
            raise _wrong_length(self.length)
        self._check_digests()
        if self.claim is not None:
            self.claim.whole = True
            await self.claim.keep()
        if held:
            yield held

    def _check_digests(self) -> None:
        for name, value in self._promised.items():
            if self.value(name) != value:
                raise InvalidRequest(
                    f"The bytes that arrived have another {name} than was sent along.",
                    code="digest_mismatch",
                    hint="Send the part again; if it stays, compute the digest anew.",
                    retryable=True,
                )


def _wrong_length(length: int) -> GatewayError:
    return InvalidRequest(
        f"The part was to have {length} bytes, and has not.",
        code="part_length_mismatch",
        hint="Send exactly as many bytes as Content-Length says.",
    )
