"""Checksums against published values, against each other, and against bad input."""

import base64
import hashlib
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.checksums import (
    ALGORITHMS,
    PREFERENCE,
    BytesLike,
    Checksum,
    algorithm_named,
    combine,
    composite,
)
from gateway.core.plan import MIB, PartLimits, plan_parts
from gateway.errors import InvalidRequest

CRCS = [name for name, algorithm in ALGORITHMS.items() if algorithm.combinable]
DIGESTS = [name for name in ALGORITHMS if name not in CRCS]
ASCENDING = bytes(range(256))

# The sources: "check" of the catalogue of parametrised CRC algorithms
# (reveng.sourceforge.io/crc-catalogue), RFC 3720 appendix B.4 for CRC32C, the NVM Command Set
# specification 1.0d, section 5.2.1.3.5, for CRC64NVME, FIPS 180-4's examples for SHA, RFC 1321
# appendix A.5 for MD5.
PUBLISHED = [
    ("crc32", b"123456789", "cbf43926"),
    ("crc32c", b"123456789", "e3069283"),
    ("crc32c", bytes(32), "8a9136aa"),
    ("crc32c", b"\xff" * 32, "62a8ab43"),
    ("crc32c", ASCENDING[:32], "46dd794e"),
    ("crc32c", ASCENDING[31::-1], "113fdb5c"),
    ("crc64nvme", b"123456789", "ae8b14860a799888"),
    ("crc64nvme", bytes(4096), "6482d367eb22b64e"),
    ("crc64nvme", b"\xff" * 4096, "c0ddba7302eca3ac"),
    ("crc64nvme", ASCENDING * 16, "3e729f5f6750449c"),
    ("crc64nvme", ASCENDING[::-1] * 16, "9a2df64b8e9e517e"),
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("sha1", b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ("md5", b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("crc32", b"", "00000000"),
    ("crc32c", b"", "00000000"),
    ("crc64nvme", b"", "0000000000000000"),
    ("sha256", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
]

# Three parts of 5 MiB of A, B and C, and the whole object, as the tests of Ceph's S3 interface
# expect them of any store (github.com/ceph/s3-tests, s3tests/functional/test_s3.py,
# test_multipart_use_cksum_helper_*).
THREE_PARTS = [
    ("crc64nvme", ["L/E4WYn8v98=", "xW1l19VobYM=", "cK5MnNaWrW4="], "i+6LR0y3eFo="),
    ("crc32", ["JRTCyQ==", "QoZTGg==", "YAgjqw=="], "WgDhBQ=="),
    ("crc32c", ["MDaLrw==", "TH4EZg==", "Z7mBIQ=="], "xU+Krw=="),
]
THREE_SHA256 = [
    "275VF5loJr1YYawit0XSHREhkFXYkkPKGuoK0x9VKxI=",
    "mrHwOfjTL5Zwfj74F05HOQGLdUb7E5szdCbxgUSq6NM=",
    "Vw7oB/nKQ5xWb3hNgbyfkvDiivl+U+/Dft48nfJfDow=",
]


@pytest.mark.parametrize(("name", "data", "expected"), PUBLISHED)
def test_published_values_are_computed(name: str, data: bytes, expected: str) -> None:
    hasher = ALGORITHMS[name].new()
    hasher.update(data)
    assert hasher.digest().hex() == expected
    assert hasher.value() == base64.b64encode(bytes.fromhex(expected)).decode()
    assert Checksum(name, hasher.value()).digest.hex() == expected


def test_every_algorithm_has_a_published_value() -> None:
    assert {name for name, _, _ in PUBLISHED} == set(ALGORITHMS)


@pytest.mark.parametrize(("name", "parts", "whole"), THREE_PARTS)
def test_parts_combine_to_the_value_a_store_reports(
    name: str, parts: list[str], whole: str
) -> None:
    bodies = [letter * (5 * MIB) for letter in (b"A", b"B", b"C")]
    assert [ALGORITHMS[name].value_of(body) for body in bodies] == parts
    assert combine(name, [(value, 5 * MIB) for value in parts]) == Checksum(name, whole)


def test_the_composite_is_the_one_a_store_reports() -> None:
    value = "uWBwpe1dxI4Vw8Gf0X9ynOdw/SS6VBzfWm9giiv1sf4=-3"
    assert composite("sha256", THREE_SHA256) == value
    assert composite("sha256", THREE_SHA256[::-1]) != value


@pytest.mark.parametrize("name", CRCS)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_the_parts_of_any_split_combine_to_the_whole(
    name: str, data: bytes, cuts: list[int]
) -> None:
    algorithm = ALGORITHMS[name]
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    # A cut given twice leaves an empty part in between, which changes nothing.
    pieces = [data[start:stop] for start, stop in pairwise([*edges, len(data)])]
    combined = combine(name, ((algorithm.value_of(piece), len(piece)) for piece in pieces))
    assert combined == Checksum(name, algorithm.value_of(data))


@pytest.mark.parametrize("name", ALGORITHMS)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_updates_in_pieces_equal_one_update(name: str, pieces: list[bytes]) -> None:
    hasher = ALGORITHMS[name].new()
    for piece in pieces:
        hasher.update(piece)
        hasher.value()  # Asking in between changes nothing.
    assert hasher.value() == ALGORITHMS[name].value_of(b"".join(pieces))


@pytest.mark.parametrize("name", CRCS)
def test_parts_in_another_order_combine_to_another_value(name: str) -> None:
    algorithm = ALGORITHMS[name]
    parts = [(algorithm.value_of(data), len(data)) for data in (b"first", b"second part")]
    assert combine(name, parts) != combine(name, parts[::-1])


@pytest.mark.parametrize("name", CRCS)
def test_no_parts_and_empty_parts_are_the_empty_file(name: str) -> None:
    empty = ALGORITHMS[name].value_of(b"")
    assert combine(name, []).value == empty
    assert combine(name, [(empty, 0), (empty, 0)]).value == empty


@pytest.mark.parametrize("name", CRCS)
def test_the_largest_object_combines_whichever_way_it_is_cut(name: str) -> None:
    algorithm = ALGORITHMS[name]
    plan = plan_parts(PartLimits().max_size, PartLimits())
    assert (plan.part_count, plan.part_size) == (10_000, 5 * 1024 * MIB)
    # 1 GiB of one block over and over, doubled up from 1 MiB without hashing more than that.
    value, length = algorithm.value_of(ASCENDING * 4096), MIB
    for _ in range(10):
        value, length = algorithm.combine([(value, length)] * 2), length * 2
    part = algorithm.combine([(value, length)] * 5)
    half = algorithm.combine([(part, plan.part_size)] * 5_000)
    whole = algorithm.combine([(part, plan.part_size)] * 10_000)
    assert whole == algorithm.combine([(half, 5_000 * plan.part_size)] * 2)


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_refuse_to_combine(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be combined"):
        combine(name, [(ALGORITHMS[name].value_of(b""), 0)])


def test_combining_refuses_lengths_that_are_none_and_values_of_another_algorithm() -> None:
    value = ALGORITHMS["crc32c"].value_of(b"a")
    for length in (-1, 2**64):
        with pytest.raises(ValueError, match="length"):
            combine("crc32c", [(value, length)])
    with pytest.raises(InvalidRequest):
        combine("crc64nvme", [(value, 1)])


def test_a_composite_needs_parts_and_an_algorithm_that_has_one() -> None:
    with pytest.raises(ValueError, match="no composite"):
        composite("sha256", [])
    for name in ("crc64nvme", "md5"):
        with pytest.raises(ValueError, match="no composite"):
            composite(name, [ALGORITHMS[name].value_of(b"")])
    with pytest.raises(InvalidRequest):
        composite("sha256", ["short"])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_hashers_take_every_kind_of_buffer(name: str) -> None:
    data = b"x123456789y"
    algorithm = ALGORITHMS[name]
    buffers: list[BytesLike] = [bytearray(data)[1:-1], memoryview(data)[1:-1]]
    for buffer in buffers:
        assert algorithm.value_of(buffer) == algorithm.value_of(b"123456789")
    with pytest.raises(BufferError):
        algorithm.value_of(memoryview(data)[::2])


def test_large_buffers_hash_to_the_same_as_small_ones() -> None:
    # Past a few KiB the libraries let go of the interpreter's lock and take another way.
    data = ASCENDING * 40_000
    for algorithm in ALGORITHMS.values():
        hasher = algorithm.new()
        for start in range(0, len(data), 1000):
            hasher.update(memoryview(data)[start : start + 1000])
        assert hasher.value() == algorithm.value_of(data)
    assert int.from_bytes(Checksum("crc32", ALGORITHMS["crc32"].value_of(data)).digest) == (
        zlib.crc32(data)
    )


def test_headers_and_names_are_those_of_s3() -> None:
    assert Checksum("crc64nvme", "AAAAAAAAAAA=").header == "x-amz-checksum-crc64nvme"
    assert Checksum("md5", base64.b64encode(bytes(16)).decode()).header == "content-md5"
    assert ALGORITHMS["sha256"].header == "x-amz-checksum-sha256"
    assert [ALGORITHMS[name].s3_name for name in PREFERENCE] == [
        "CRC64NVME",
        "CRC32C",
        "CRC32",
        "SHA256",
    ]


def test_preferred_algorithms_are_known_and_the_table_cannot_be_changed() -> None:
    assert set(PREFERENCE) <= set(ALGORITHMS)
    with pytest.raises(TypeError):
        ALGORITHMS["crc32"] = ALGORITHMS["crc32c"]  # type: ignore[index]  # on purpose


@given(st.sampled_from(list(ALGORITHMS)), st.data())
def test_every_digest_of_the_right_length_is_a_checksum(name: str, data: st.DataObject) -> None:
    size = ALGORITHMS[name].digest_size
    digest = data.draw(st.binary(min_size=size, max_size=size))
    assert Checksum(name, base64.b64encode(digest).decode()).digest == digest


@given(st.sampled_from(list(ALGORITHMS)), st.text(max_size=100) | st.binary(max_size=40))
def test_only_what_s3_would_write_is_a_checksum(name: str, value: str | bytes) -> None:
    if isinstance(value, bytes):
        is_checksum = len(value) == ALGORITHMS[name].digest_size
        value = base64.b64encode(value).decode()
    else:
        # Eight random letters are base64 of 4 to 6 bytes; what base64 reads must write itself.
        is_checksum = is_base64_of(value, ALGORITHMS[name].digest_size)
    if is_checksum:
        assert Checksum(name, value).value == value
        return
    with pytest.raises(InvalidRequest) as caught:
        Checksum(name, value)
    assert caught.value.code == "invalid_checksum"
    assert f"{ALGORITHMS[name].digest_size} bytes" in caught.value.hint


def is_base64_of(text: str, size: int) -> bool:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return len(digest) == size and base64.b64encode(digest).decode() == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "4waSgw",
        "4waSgw=",
        "4waSgw===",
        " 4waSgw==",
        "4waSgw==\n",
        "4waSgx==",  # The same bytes, but with bits where padding must be zero.
        "4wa-_w==",
        "4wa?gw==",
        "e3069283",
        "4waSgwA=",
        "٤waSgw==",
        pytest.param("A" * 10_000_000, id="enormous"),
        b"4waSgw==",
        None,
        7,
        ["4waSgw=="],
    ],
)
def test_a_value_that_is_no_checksum_is_refused_with_a_hint(value: str) -> None:
    assert Checksum("crc32c", "4waSgw==").digest.hex() == "e3069283"
    with pytest.raises(InvalidRequest) as caught:
        Checksum("crc32c", value)
    assert caught.value.code == "invalid_checksum"
    assert "4 bytes" in caught.value.hint
    assert "base64" in caught.value.hint


@pytest.mark.parametrize("name", ["", "CRC32C", "xxhash64", "sha-256", None, 3, ["crc32"]])
def test_an_unknown_algorithm_is_refused_with_the_names_that_are_known(name: str) -> None:
    for use in (algorithm_named, lambda name: Checksum(name, "4waSgw==")):
        with pytest.raises(InvalidRequest) as caught:
            use(name)
        assert caught.value.code == "invalid_checksum"
        assert "crc64nvme" in caught.value.hint


def test_a_whole_file_digest_is_that_of_hashlib() -> None:
    value = base64.b64encode(hashlib.sha256(ASCENDING).digest()).decode()
    assert ALGORITHMS["sha256"].value_of(ASCENDING) == value
