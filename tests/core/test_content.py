"""Which files a policy takes, by name, declared type, first bytes and size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import PNG, mrc_header

from gateway.core.content.policy import TAKES_ALL, ContentPolicy, extension_of
from gateway.core.plan import MIB, PartLimits, PartPlan, plan_parts
from gateway.errors import GatewayError, TooLarge, UnsupportedType

ANY = "application/octet-stream"


def policy(*entries: str) -> ContentPolicy:
    return ContentPolicy(entries)


def refused(given_policy: ContentPolicy, name: str, declared: str, size: int | None = 1) -> str:
    with pytest.raises(UnsupportedType) as caught:
        given_policy.admit(name, declared, size)
    assert caught.value.hint
    assert not caught.value.retryable
    return caught.value.code


class TestNames:
    @pytest.mark.parametrize(
        ("entries", "name"),
        [
            ([".mrc"], "a.mrc"),
            ([".mrc"], "A.MRC"),
            ([".MRC"], "a.mrc"),
            ([".mrc"], "ein 漢字 🎉.mrc"),
            ([".gz"], "a.mrc.gz"),
            ([".mrc.gz"], "a.mrc.gz"),
            ([".foo"], "a.foo"),
            (["image/*"], "a.png"),
            (["image/*"], "a.jpeg"),
            (["image/png"], "a.png"),
            (["image/*"], "a.mrc"),
            (["video/mp4", ".mrc"], "a.mp4"),
            (["text/*"], "a.py"),
            (["*/*"], "a.exe"),
            (["*/*"], "a"),
        ],
    )
    def test_a_name_that_is_listed_is_taken(self, entries: list[str], name: str) -> None:
        policy(*entries).admit(name, ANY, 1)

    @pytest.mark.parametrize(
        ("entries", "name"),
        [
            ([".mrc"], "a.png"),
            ([".mrc"], "a"),
            ([".mrc"], "mrc"),
            ([".mrc"], ".mrc"),
            ([".mrc"], "a.mrc."),
            ([".mrc"], "a.mrc "),
            ([".mrc"], "a.mrc.exe"),
            ([".mrc"], "amrc"),
            ([".mrc"], "a.mrc.gz"),
            ([".mrc.gz"], "a.gz"),
            ([".mrc.gz"], ".mrc.gz"),
            (["image/*"], "a.mp4"),
            (["image/*"], "a.foo"),
            (["image/png"], "a.jpg"),
            (["image/*"], "a.svg.gz"),
            (["application/vnd.ms-excel"], "a.csv"),
        ],
    )
    def test_another_is_refused_with_what_is_allowed(self, entries: list[str], name: str) -> None:
        with pytest.raises(UnsupportedType) as caught:
            policy(*entries).admit(name, ANY, 1)
        assert caught.value.code == "file_type_not_allowed"
        assert caught.value.details == {"allowed_types": entries}
        assert all(entry in caught.value.hint for entry in entries)

    def test_no_entries_take_everything(self) -> None:
        TAKES_ALL.admit("a.exe", "application/x-msdownload", 0)
        assert TAKES_ALL.first_bytes("a.mrc", ANY) == 0
        assert TAKES_ALL.judge("a.mrc", ANY, PNG, size=None) is None
        assert TAKES_ALL.judge_size(1 << 60) is None

    @pytest.mark.parametrize(
        "entry", ["mrc", ".", "", "image", "image/", "/png", "*", "*/png", ".a b", "../a", "a/b/c"]
    )
    def test_an_entry_that_is_neither_is_no_setting(self, entry: str) -> None:
        with pytest.raises(ValueError, match="neither an extension"):
            policy(entry)

    def test_a_list_without_end_is_no_setting(self) -> None:
        with pytest.raises(ValueError, match="more than 200"):
            policy(*(f".x{n}" for n in range(201)))

    @pytest.mark.parametrize(
        ("name", "extension"),
        [("a.B", "b"), ("a.tar.gz", "gz"), ("a", ""), (".a", ""), ("a.", ""), ("..", "")],
    )
    def test_the_extension_is_what_follows_the_last_dot(self, name: str, extension: str) -> None:
        assert extension_of(name) == extension


class TestDeclaredTypes:
    @pytest.mark.parametrize(
        ("entries", "name", "declared"),
        [
            ([".png"], "a.png", "image/png"),
            ([".png"], "a.png", "IMAGE/PNG; charset=binary"),
            ([".png"], "a.png", "binary/octet-stream"),
            ([".jpg"], "a.jpg", "image/jpg"),
            # What systems and browsers say of these.
            ([".mrc"], "a.mrc", "application/marc"),
            ([".csv"], "a.csv", "application/vnd.ms-excel"),
            ([".zip"], "a.zip", "application/x-zip-compressed"),
            ([".gz"], "a.gz", "application/x-gzip"),
            ([".gz"], "a.csv.gz", "text/csv"),
            ([".tar.gz"], "a.tar.gz", "application/x-tar"),
            ([".py"], "a.py", "text/x-python"),
            ([".foo", "application/x-foo"], "a.foo", "application/x-foo"),
            (["image/*"], "photo", "image/png"),
            (["*/*"], "a.foo", "application/x-foo"),
        ],
    )
    def test_a_type_that_goes_with_the_name_is_taken(
        self, entries: list[str], name: str, declared: str
    ) -> None:
        policy(*entries).admit(name, declared, 1)

    @pytest.mark.parametrize(
        ("entries", "name", "declared"),
        [
            ([".mrc"], "a.mrc", "text/html"),
            ([".mrc", "image/*"], "a.mrc", "image/png"),
            ([".py", "image/*"], "a.py", "image/png"),
            (["*/*"], "a.png", "application/pdf"),
            ([".foo"], "a.foo", "text/html"),
            ([".png"], "a.png", "image/png-or-so"),
            ([".gz"], "a.png.gz", "text/html"),
            (["image/*"], "photo", "video/mp4"),
            ([".png"], "photo", "image/png"),
        ],
    )
    def test_another_is_refused(self, entries: list[str], name: str, declared: str) -> None:
        assert refused(policy(*entries), name, declared) == "file_type_not_allowed"


class TestFirstBytes:
    def test_a_file_that_is_what_its_name_says_is_taken(self) -> None:
        assert policy(".mrc").judge("a.mrc", ANY, mrc_header(), size=1072) is None
        assert policy("image/*").judge("a.png", ANY, PNG, size=len(PNG)) is None

    def test_another_is_refused_with_what_it_seems_to_be(self) -> None:
        problem = policy(".mrc").judge("a.mrc", ANY, PNG.ljust(1024, b"\0"), size=1 << 20)
        assert problem is not None
        assert problem.code == "content_not_allowed"
        assert "MRC2014 map" in problem.message
        assert "PNG image" in problem.hint

    def test_a_name_without_an_extension_is_judged_by_what_it_is_declared_to_be(self) -> None:
        assert policy("image/*").judge("photo", "image/png", PNG, size=None) is None
        problem = policy("image/*").judge("photo", "image/jpeg", PNG, size=None)
        assert problem is not None
        assert "declared type (JPEG image)" in problem.message

    def test_of_an_unknown_type_nothing_is_looked_at(self) -> None:
        assert policy(".foo").first_bytes("a.foo", ANY) == 0
        assert policy(".foo").check_first_bytes("a.foo", ANY, b"", size=None) == 0
        assert policy(".foo").judge("a.foo", ANY, PNG, size=None) is None

    def test_every_name_may_be_taken_and_still_be_looked_at(self) -> None:
        assert policy("*/*").judge("a.png", ANY, b"MZ", size=None) is not None
        assert policy("*/*").judge("a.exe", ANY, b"MZ", size=None) is None

    def test_what_comes_in_pieces_is_judged_as_soon_as_there_is_enough(self) -> None:
        check = policy(".mrc", ".png").check_first_bytes
        header = mrc_header()
        for length in (0, 1, 1023):
            assert check("a.mrc", ANY, header[:length], size=None) == 1024
            assert check("a.mrc", ANY, header[:length], size=5000) == 1024
        assert check("a.mrc", ANY, header, size=None) == 0
        with pytest.raises(UnsupportedType) as caught:
            check("a.mrc", ANY, PNG.ljust(1024, b"\0"), size=None)
        assert caught.value.code == "content_not_allowed"
        assert "PNG image" in caught.value.hint

    def test_a_file_shorter_than_what_is_looked_at_is_judged_by_all_it_has(self) -> None:
        check = policy(".mrc", ".gif").check_first_bytes
        assert check("a.gif", ANY, b"GIF89a", size=6) == 0
        assert check("a.gif", ANY, b"GIF89a", size=None) == 64
        with pytest.raises(UnsupportedType):
            check("a.mrc", ANY, mrc_header()[:1000], size=1000)

    @pytest.mark.parametrize(
        ("name", "taken"), [("a.txt", True), ("a.foo", True), ("a.mrc", False)]
    )
    def test_an_empty_file_is_refused_at_once_where_its_type_has_none(
        self, name: str, *, taken: bool
    ) -> None:
        if taken:
            policy("*/*").admit(name, ANY, 0)
        else:
            assert refused(policy("*/*"), name, ANY, 0) == "content_not_allowed"
            problem = policy("*/*").judge(name, ANY, b"", size=0)
            assert problem is not None
            assert "empty" in problem.message


class TestSizes:
    def test_the_smaller_of_both_limits_counts(self) -> None:
        limits = PartLimits(max_object_size=1000)
        assert ContentPolicy().within(limits) is limits
        assert ContentPolicy(max_file_size=999).within(limits).max_size == 999
        assert ContentPolicy(max_file_size=1001).within(limits).max_size == 1000

    def test_a_file_of_the_largest_size_is_planned_and_a_larger_one_is_not(self) -> None:
        limits = ContentPolicy(max_file_size=20 * MIB + 1).within(PartLimits())
        assert plan_parts(20 * MIB + 1, limits).part_count == 3
        with pytest.raises(TooLarge) as caught:
            plan_parts(20 * MIB + 2, limits)
        assert caught.value.code == "file_too_large"
        assert caught.value.details == {"max_size": 20 * MIB + 1}

    @pytest.mark.parametrize(
        ("number", "length", "taken"),
        [
            (1, 10, True),
            (2, 10, True),
            (3, 5, True),
            (3, 6, False),
            (3, None, True),
            (4, None, False),
            (4, 1, False),
        ],
    )
    def test_parts_of_a_file_of_unknown_size_end_at_the_limit(
        self, number: int, length: int | None, *, taken: bool
    ) -> None:
        limited = ContentPolicy(max_file_size=25)
        plan = PartPlan(None, 10)
        if taken:
            limited.check_part(plan, number, length)
        else:
            with pytest.raises(TooLarge) as caught:
                limited.check_part(plan, number, length)
            assert caught.value.code == "file_too_large"
        TAKES_ALL.check_part(plan, number, length)
        # Where the size is known, it was looked at when the session was created.
        limited.check_part(PartPlan(40, 10), number, length)

    def test_only_full_parts_that_fit_are_signed_unasked(self) -> None:
        assert ContentPolicy(max_file_size=25).full_parts(PartPlan(None, 10)) == 2
        assert ContentPolicy(max_file_size=9).full_parts(PartPlan(None, 10)) == 0
        assert ContentPolicy(max_file_size=9).full_parts(PartPlan(40, 10)) == 4
        assert TAKES_ALL.full_parts(PartPlan(None, 10)) == 10_000

    def test_a_size_that_is_none_is_no_setting(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            ContentPolicy(max_file_size=0)


POLICIES = st.builds(
    ContentPolicy,
    st.lists(st.sampled_from([".mrc", ".gz", ".tar.gz", "image/*", "*/*", "text/csv", ".foo"])),
    st.none() | st.integers(1, 1 << 40),
)
NAMES = st.text(max_size=30) | st.builds(
    "{}.{}".format,
    st.text(max_size=8),
    st.sampled_from(["mrc", "png", "GZ", "tar.gz", "csv", "foo", "iso", "mp3", "svg", "webm", "İ"]),
)
DECLARED = st.sampled_from(
    [ANY, "image/png", "text/csv", "x/y", "IMAGE/PNG;a=b", "application/gzip"]
)


@given(POLICIES, NAMES, DECLARED, st.binary(max_size=1100), st.none() | st.integers(0, 1 << 62))
def test_whatever_comes_is_taken_or_refused_with_a_code(
    some: ContentPolicy, name: str, declared: str, head: bytes, size: int | None
) -> None:
    needed, code = 0, "content_not_allowed"
    try:
        some.admit(name, declared, size)
        needed = some.check_first_bytes(name, declared, head, size=size)
    except GatewayError as error:
        code = error.code
    assert code in {"file_type_not_allowed", "content_not_allowed"}
    assert needed == 0 or len(head) < needed
    problem = some.judge(name, declared, head, size=size)
    assert problem is None or problem.message


@given(NAMES, DECLARED)
def test_without_entries_nothing_is_refused_or_read(name: str, declared: str) -> None:
    TAKES_ALL.admit(name, declared, 0)
    assert TAKES_ALL.first_bytes(name, declared) == 0
