"""The checksums that the browser computes: known answers, and agreement with the gateway's own."""

import base64
import hashlib
import random
from typing import Any

import pytest
from dashboard.upload_page import UploadPage

from gateway.core.checksums import ALGORITHMS

# The check values of the catalogue of parametrised CRC algorithms, and of FIPS 180-4, RFC 1321.
CHECK = b"123456789"
KNOWN = {
    "crc64nvme": "ae8b14860a799888",
    "crc32c": "e3069283",
    "crc32": "cbf43926",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}
# Around the block sizes of the hashes, the slices of the CRCs and the pieces of a file.
SIZES = [0, 1, 7, 8, 9, 55, 56, 63, 64, 65, 119, 120, 1000, 2**20 - 1, 2**20, 2**20 + 1]

DIGEST = """async ([text, algorithm, subtle]) => {
  const { digestBlob } = await import("/static/uploader/checksums.js");
  if (!subtle) Object.defineProperty(crypto, "subtle", { value: undefined, configurable: true });
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return digestBlob(new Blob([bytes]), algorithm, { md5: !subtle });
}"""
COMBINE = """async ([algorithm, parts]) => {
  const { combine } = await import("/static/uploader/checksums.js");
  return combine(algorithm, parts);
}"""


async def digest(
    upload_page: UploadPage, data: bytes, algorithm: str, *, subtle: bool = False
) -> Any:
    text = base64.b64encode(data).decode()
    return await upload_page.page.evaluate(DIGEST, [text, algorithm, subtle])


@pytest.mark.parametrize("algorithm", KNOWN)
async def test_check_values(upload_page: UploadPage, algorithm: str) -> None:
    found = await digest(upload_page, CHECK, algorithm)
    assert base64.b64decode(found["checksum"]).hex() == KNOWN[algorithm]
    assert found["md5"] == "25f9e794323b453885f5181f1b624d0b"


@pytest.mark.parametrize("algorithm", KNOWN)
async def test_browser_and_gateway_agree(upload_page: UploadPage, algorithm: str) -> None:
    source = random.Random(algorithm)
    for size in SIZES:
        data = source.randbytes(size)
        hasher = ALGORITHMS[algorithm].new()
        hasher.update(data)
        found = await digest(upload_page, data, algorithm)
        assert base64.b64decode(found["checksum"]) == hasher.digest(), f"{size} bytes"
        assert found["md5"] == hashlib.md5(data, usedforsecurity=False).hexdigest()


async def test_sha256_is_the_same_with_and_without_the_browsers_own(
    upload_page: UploadPage,
) -> None:
    data = random.Random(3).randbytes(100_000)
    theirs = await digest(upload_page, data, "sha256", subtle=True)
    ours = await digest(upload_page, data, "sha256")
    assert theirs["checksum"] == ours["checksum"]


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32"])
async def test_checksums_of_parts_give_that_of_the_file(
    upload_page: UploadPage, algorithm: str
) -> None:
    data = random.Random(5).randbytes(300_001)
    parts = []
    for start, stop in [(0, 100_000), (100_000, 200_000), (200_000, 200_000), (200_000, 300_001)]:
        found = await digest(upload_page, data[start:stop], algorithm)
        parts.append({"checksum": found["checksum"], "size": stop - start})
    whole = await digest(upload_page, data, algorithm)
    assert await upload_page.page.evaluate(COMBINE, [algorithm, parts]) == whole["checksum"]
    assert await upload_page.page.evaluate(COMBINE, ["sha256", parts]) is None


async def test_an_unknown_algorithm_is_refused(upload_page: UploadPage) -> None:
    message = await upload_page.page.evaluate(
        """async () => {
          const { digestBlob } = await import("/static/uploader/checksums.js");
          return digestBlob(new Blob([]), "toString").catch((error) => error.message);
        }"""
    )
    assert "toString is not known" in message
