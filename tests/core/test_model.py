import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_session

from gateway.core.access import READ, WRITE, Principal, authorize
from gateway.core.creation import object_key
from gateway.core.model import NewUpload, Progress, check_session_id
from gateway.errors import Forbidden, InvalidRequest, SessionNotFound

ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ({"filename": ""}, "invalid_filename"),
        ({"filename": "a/b"}, "invalid_filename"),
        ({"filename": "a\\b"}, "invalid_filename"),
        ({"filename": ".."}, "invalid_filename"),
        ({"filename": "a\nb"}, "invalid_filename"),
        ({"filename": "a\x00"}, "invalid_filename"),
        ({"filename": "\ud800"}, "invalid_filename"),
        ({"filename": "x" * 10_000}, "invalid_filename"),
        ({"content_type": "video"}, "invalid_content_type"),
        ({"content_type": "text/html\r\nX: y"}, "invalid_content_type"),
        ({"content_type": "text/html\r\n; X: y"}, "invalid_content_type"),
        ({"content_type": "text/html\v;a=b"}, "invalid_content_type"),
        ({"content_type": "text/html; a=\x7f"}, "invalid_content_type"),
        ({"metadata": {"k": "v" * 2048}}, "metadata_too_large"),
        ({"metadata": {"k": "\x1b[31m"}}, "invalid_metadata"),
        ({"fingerprint": "f" * 256}, "invalid_fingerprint"),
        ({"fingerprint": ""}, "invalid_fingerprint"),
        ({"idempotency_key": "clé"}, "invalid_idempotency_key"),
        ({"idempotency_key": ""}, "invalid_idempotency_key"),
        ({"checksum_algorithm": "md5"}, "unknown_checksum_algorithm"),
        ({"key": "/a"}, "invalid_key"),
        ({"key": "a/../b"}, "invalid_key"),
        ({"key": "a//b"}, "invalid_key"),
        ({"key": "a\\..\\b"}, "invalid_key"),
        ({"key": "k/" * 512 + "k"}, "invalid_key"),
        ({"key": f"a/{'k' * 256}/b"}, "invalid_key"),
        ({"bucket": ""}, "invalid_bucket"),
        ({"bucket": ".."}, "invalid_bucket"),
        ({"bucket": "a/b"}, "invalid_bucket"),
        ({"bucket": "bucket\n"}, "invalid_bucket"),
        ({"bucket": "b" * 64}, "invalid_bucket"),
    ],
)
def test_a_bad_request_is_refused_with_a_code_and_a_hint(
    field: dict[str, object], code: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        NewUpload(**({"filename": "a"} | field))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("name", ["movie.mp4", "été 🎬.mov", "a b'c\"d", "名前", "-rf", "%2e%2e"])
def test_a_name_of_any_script_is_taken(name: str) -> None:
    assert NewUpload(filename=name).filename == name


@given(st.text(min_size=1).filter(lambda name: name.isprintable()))
def test_a_key_is_plain_and_holds_the_session_id_whatever_the_file_is_called(name: str) -> None:
    key = object_key(ID, name)
    assert key.startswith(f"uploads/{ID}/")
    last = key.rpartition("/")[2]
    assert last.isascii()
    assert last not in {"", ".", ".."}
    assert len(key) < 256


@pytest.mark.parametrize(
    "session_id", ["", "1", ID.upper(), ID + "0", "../" + ID[3:], ID[:-1] + "\n"]
)
def test_an_id_of_the_wrong_shape_is_unknown(session_id: str) -> None:
    with pytest.raises(SessionNotFound):
        check_session_id(session_id)


@given(st.sets(st.integers(1, 10_000)))
def test_progress_reads_the_bitmap_of_parts(numbers: set[int]) -> None:
    bits = bytearray(1250)
    for number in numbers:
        bits[(number - 1) // 8] |= 0x80 >> (number - 1) % 8
    progress = Progress(received=bytes(bits).rstrip(b"\0"))
    assert progress.numbers() == sorted(numbers)
    assert all(progress.has(number) == (number in numbers) for number in range(1, 200))


def test_a_status_says_what_is_missing_and_how_far_it_is() -> None:
    session = make_session(
        size=100,
        part_size=30,
        progress=Progress(received_bytes=40, received_parts=2, received=b"\x90"),
    )
    assert session.missing == "2-3"
    assert session.fraction == pytest.approx(0.4)
    assert session.phase == "uploading"


def test_an_unknown_size_has_no_fraction_and_nothing_missing_yet() -> None:
    session = make_session(size=None)
    assert session.fraction is None
    assert session.missing is None


def test_an_empty_file_misses_its_one_empty_part() -> None:
    assert make_session(size=0).missing == "1"


def test_a_foreign_session_looks_unknown_even_without_the_scope() -> None:
    session = make_session(owner="alice")
    with pytest.raises(SessionNotFound):
        authorize(Principal("bob"), WRITE, session)
    with pytest.raises(SessionNotFound):
        authorize(Principal("bob", frozenset()), WRITE, session)


def test_an_owner_needs_the_scope() -> None:
    session = make_session(owner="alice")
    authorize(Principal("alice"), WRITE, session)
    with pytest.raises(Forbidden) as caught:
        authorize(Principal("alice", frozenset({READ})), WRITE, session)
    assert caught.value.details == {"scope": WRITE}
