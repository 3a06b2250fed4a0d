"""Forms: what is taken whatever pieces it arrives in, and what each other thing is told."""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidRequest, TooLarge, UnsupportedType
from gateway.web.forms import (
    MAX_HEADER_BYTES,
    MAX_PARTS,
    MAX_STRAY_BYTES,
    MAX_VALUE_BYTES,
    FilePart,
    boundary_of,
    parse_form,
)

BOUNDARY = "a-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


async def blocks_of(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        if block:
            yield block


def field(name: str, value: bytes = b"v", *, head: str = "") -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n{head}\r\n'.encode()
        + value
        + b"\r\n"
    )


def part(disposition: str, value: bytes = b"v") -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()

Read = tuple[dict[str, str], FilePart | None, bytes]


async def read(*blocks: bytes, content_type: str = TYPE) -> Read:
    async with parse_form(blocks_of(blocks), content_type, files={"chunk", "file"}) as form:
        content = b"".join([block async for block in form.blocks()])
        return dict(form.fields), form.file, content


async def outcome(blocks: Sequence[bytes]) -> Read | str:
    try:
        return await read(*blocks)
    except GatewayError as error:
        return error.code


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


async def refused(*blocks: bytes, content_type: str = TYPE) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await read(*blocks, content_type=content_type)
    return caught.value


# What is taken.


async def test_fields_come_in_any_order_around_the_file() -> None:
    file = part('form-data; name="chunk"; filename="blob"', b"bytes\r\n\x00of it")
    for order in (
        (field("a", b"1"), field("b", "ü🎬".encode()), file),
        (file, field("b", "ü🎬".encode()), field("a", b"1")),
        (field("a", b"1"), file, field("b", "ü🎬".encode())),
    ):
        fields, head, content = await read(*order, END)
        assert fields == {"a": "1", "b": "ü🎬"}
        assert head == FilePart("chunk", "blob")
        assert content == b"bytes\r\n\x00of it"


async def test_the_reading_stops_at_the_file_so_that_its_bytes_can_be_handed_on() -> None:
    came: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        came.append("fields")
        yield field("a") + part('form-data; name="chunk"')[:-3]
        came.append("rest")
        yield b"more\r\n" + field("b") + END

    async with parse_form(body(), TYPE, files={"chunk"}) as form:
        assert came == ["fields"]
        assert form.fields == {"a": "v"}
        assert form.file == FilePart("chunk")
        assert b"".join([block async for block in form.blocks()]) == b"more"
        assert form.fields == {"a": "v", "b": "v"}


async def test_a_form_without_a_file_or_with_an_empty_one() -> None:
    assert await read(field("a"), END) == ({"a": "v"}, None, b"")
    assert await read(field("a"), field("chunk", b""), END) == (
        {"a": "v"},
        FilePart("chunk"),
        b"",
    )
    assert await read(END) == ({}, None, b"")


async def test_the_last_line_break_may_be_left_out_and_strays_are_ignored() -> None:
    expected = ({"a": "v"}, None, b"")
    assert await read(field("a"), END.rstrip()) == expected
    assert await read(b"\r\n", field("a"), END) == expected
    assert await read(field("a"), END, b"more\r\n") == expected


async def test_a_blocks_size_is_never_more_than_what_arrived() -> None:
    head = part('form-data; name="chunk"', b"")[:-2]
    data = [head, *([b"x" * 1000] * 50), b"\r\n", END]
    async with parse_form(blocks_of(data), TYPE, files={"chunk"}) as form:
        sizes = [len(block) async for block in form.blocks()]
    assert sum(sizes) == 50_000
    assert max(sizes) <= 1000


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="chunk"; filename="plain.mrc"', "plain.mrc"),
        ("form-data; name=chunk; filename=plain.mrc", "plain.mrc"),
        ('Form-Data ; NAME="chunk" ; FileName = "plain.mrc" ;', "plain.mrc"),
        ('form-data; filename="first.mrc"; name="chunk"', "first.mrc"),
        ('form-data; name="chunk"; filename="ü🎬.mp4"', "ü🎬.mp4"),
        ('form-data; name="chunk"; filename="a %22b%22%0D%0A.mp4"', 'a "b"\r\n.mp4'),
        ('form-data; name="chunk"; filename="100%25.mp4"', "100%25.mp4"),
        (r'form-data; name="chunk"; filename="a \"b\" \\.mp4"', 'a "b" \\.mp4'),
        (r'form-data; name="chunk"; filename="C:\files\a.mp4"', r"C:\files\a.mp4"),
        ('form-data; name="chunk"; filename="ends in \\"', "ends in \\"),
        ('form-data; name="chunk"; filename="a;b=c.mp4"', "a;b=c.mp4"),
        ("form-data; name=\"chunk\"; filename*=UTF-8''%c3%bc%20x.mp4", "ü x.mp4"),
        ('form-data; name="chunk"; filename="u.mp4"; filename*=utf-8\'de\'%c3%bc.mp4', "ü.mp4"),
        ("form-data; name=\"chunk\"; filename*=ISO-8859-1''%fc.mp4", "ü.mp4"),
        ("form-data; name*=utf-8''chunk; filename=x", "x"),
        ('form-data; name="chunk"; filename=""', ""),
    ],
)
async def test_names_of_files_are_read_as_clients_write_them(
    disposition: str, filename: str
) -> None:
    _, head, content = await read(part(disposition, b"x"), END)
    assert head == FilePart("chunk", filename)
    assert content == b"x"


async def test_a_field_may_name_its_charset_and_length() -> None:
    body = [
        field("a", b"\xfc", head="Content-Type: text/plain; charset=ISO-8859-1\r\n"),
        field("b", "ü".encode(), head='content-type: text/plain; charset="UTF-8"\r\n'),
        field("c", b"12", head="Content-Length: 2\r\nContent-Transfer-Encoding: 8bit\r\n"),
        END,
    ]
    assert await read(*body) == ({"a": "ü", "b": "ü", "c": "12"}, None, b"")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ("Multipart/Form-Data;boundary=abc", "abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b:c"', "a b:c"),
        ("multipart/form-data; Boundary=----WebKitFormBoundary7MA4YWxk", "----WebKit"),
        ("multipart/form-data; boundary=" + "b" * 70, "b" * 70),
    ],
)
def test_the_boundary_is_found(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type).startswith(boundary)


# What is refused.


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="ends in space "',
        "multipart/form-data; boundary=ü",
        'multipart/form-data; boundary="a\\\r\nb"',
        "multipart/form-data; boundary=" + "b" * 71,
        "multipart/form-data; boundary=" + "b" * 10_240,
        'multipart/form-data; boundary="unclosed',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a b",
    ],
)
def test_no_boundary_or_a_wrong_one_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        boundary_of(content_type)
    assert caught.value.code == "invalid_form"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/mixed; boundary=a", "text/plain"]
)
def test_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        boundary_of(content_type)
    assert caught.value.code == "unsupported_media_type"


@pytest.mark.parametrize(
    "body",
    [
        b"no form at all",
        b"--a-boundaryx\r\n",
        b"--a-boundary\nContent-Disposition: form-data; name=a\n\nv\n--a-boundary--\n",
        field("a").replace(b"\r\nv", b"\nv"),
        b"x" + field("a"),
        b"\r\n\r\n" + field("a"),
        b"to old readers of mail\r\n" + field("a"),
        field("a", b"v\r\n--a-boundaryx"),
        b"--a-boundary\r\nContent-Type: text/plain\r\n\r\nv\r\n",
        b"--a-boundary\r\n\r\nv\r\n",
        part("attachment; name=a"),
        part("form-data"),
        part('form-data; name=""'),
        part('form-data; name="a'),
        part('form-data; name="a" filename="b"'),
        part("form-data; name=a; name=b"),
        part("form-data; name=a; filename=a; filename=b"),
        part("form-data; name=chunk; filename*=a.mp4"),
        part("form-data; name=chunk; filename*=utf-8''%ff"),
        part("form-data; name=chunk; filename*=koi8-r''a"),
        part('form-data; name="a\x00b"'),
        part('form-data; name="a\nb"'),
        field("a", head="Content-Type: text/plain\r\nContent-Type: text/plain\r\n"),
        field("a", head="Content-Type: text/plain; charset=koi8-r\r\n"),
        field("a", b"\xff"),
        field("a", head="Content-Length: 2\r\n"),
        field("a", head="Content-Length: 0\r\n"),
        field("a", head="Content-Length: -1\r\n"),
        field("a", head="Content-Length: " + "9" * 5000 + "\r\n"),
        field("a", head="no colon\r\n"),
        field("a", head="b\xe4d name: 1\r\n"),
        field("a") + field("a"),
        field("chunk") + field("chunk"),
        field("chunk") + field("file"),
        part("form-data; name=\xe4").replace("ä".encode(), b"\xe4"),
    ],
)
async def test_a_malformed_form_is_refused_without_repeating_it(body: bytes) -> None:
    error = await refused(body, END)
    assert (error.kind, error.code) == ("invalid_request", "invalid_form")
    assert error.hint
    assert len(error.message) < 200


async def test_what_breaks_off_is_told_apart_from_what_is_malformed() -> None:
    whole = field("a") + part("form-data; name=chunk; filename=b", b"bytes") + field("c") + END
    end = whole.index(END) + len(END.rstrip())
    for length in range(end):
        error = await refused(whole[:length])
        assert (error.code, error.retryable) == ("body_truncated", True), whole[:length]
    assert (await read(whole[:end]))[2] == b"bytes"


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "gzip"])
async def test_an_encoded_field_is_refused(encoding: str) -> None:
    error = await refused(field("chunk", head=f"Content-Transfer-Encoding: {encoding}\r\n"), END)
    assert (error.kind, error.code) == ("unsupported_type", "unsupported_encoding")


async def test_forms_end_where_the_limits_are() -> None:
    at_most = [field(str(number)) for number in range(MAX_PARTS)]
    assert len((await read(*at_most, END))[0]) == MAX_PARTS
    assert (await read(field("a", b"v" * MAX_VALUE_BYTES), END))[0]["a"] == "v" * MAX_VALUE_BYTES
    assert await read(field("a"), END, b"x" * MAX_STRAY_BYTES)
    for body in (
        [field(str(number)) for number in range(1000)],
        [field("a", b"v" * (MAX_VALUE_BYTES + 1))],
        [field("a", head="X-Long: " + "v" * MAX_HEADER_BYTES + "\r\n")],
        [field("a", head="X-Many: v\r\n" * 1000)],
        [field("a", head="X-A: " + "v" * 5000 + "\r\nX-B: " + "v" * 5000 + "\r\n")],
        [part('form-data; name="' + "n" * MAX_HEADER_BYTES + '"')],
        [field("a"), END, *([b"x" * 100] * 700)],
    ):
        error = await refused(*body, *([] if END in body else [END]))
        assert isinstance(error, TooLarge)
        assert error.code == "form_too_large"


async def test_a_header_without_end_is_refused_before_all_of_it_has_come() -> None:
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        yield field("a")[:-5]
        while True:
            seen += 1000
            yield b"x" * 1000

    async def endless_value() -> AsyncIterator[bytes]:
        yield b"--a-boundary\r\nContent-Disposition: "
        async for block in endless():
            yield block

    for body in (endless(), endless_value()):
        seen = 0
        with pytest.raises(TooLarge):
            async with parse_form(body, TYPE, files=()):
                pass
        assert seen <= MAX_HEADER_BYTES + 2000


# Whatever arrives, in whatever pieces.

VALUES = st.one_of(
    st.binary(max_size=60),
    # What looks like an end, and is none.
    st.lists(
        st.sampled_from([b"\r", b"\n", b"--", b"a-", b"a-boundar", b"\r\n--a-b", b"y", b"\x00"]),
        max_size=12,
    ).map(b"".join),
).filter(lambda value: b"--a-boundary" not in value)


@given(
    values=st.lists(VALUES, max_size=6),
    at=st.integers(0, 6),
    data=st.lists(st.integers(0, 10_000), max_size=8),
)
async def test_the_pieces_that_a_form_arrives_in_make_no_difference(
    values: list[bytes], at: int, data: list[int]
) -> None:
    parts = [field(f"f{n}", value.hex().encode()) for n, value in enumerate(values)]
    content = values[0] if values else b""
    parts.insert(at, part('form-data; name="chunk"; filename="ü"', content))
    body = b"".join(parts) + END
    expected = (
        {f"f{n}": value.hex() for n, value in enumerate(values)},
        FilePart("chunk", "ü"),
        content,
    )
    assert await read(body) == expected
    assert await read(*cut(body, data)) == expected
    assert await read(*(body[n : n + 1] for n in range(len(body)))) == expected


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                field("a"),
                field("chunk", b"bytes"),
                part("form-data; name=b; filename*=utf-8''c"),
                END,
                b"--a-boundary\r\n",
                b"Content-Disposition: form-data; name=x",
                b"; filename=",
                b"Content-Length: 1\r\n",
                b"\r\n",
                b"\r",
                b"\n",
                b"--",
                b'"',
                b"\\",
                b":",
                b" ",
                b"\xff",
            ]
        ),
        st.binary(max_size=8),
    ),
    max_size=14,
).map(b"".join)


@given(body=PIECES, places=st.lists(st.integers(0, 10_000), max_size=6))
@example(body=field("a").replace(b'"a"', b'"a\nb"') + END, places=[45])
@example(body=b"\r\n\r\n" + field("a") + END, places=[3, 16])
async def test_no_bytes_crash_it_and_their_pieces_make_no_difference(
    body: bytes, places: list[int]
) -> None:
    whole = await outcome([body])
    pieces = await outcome(cut(body, places))
    assert pieces == whole or {pieces, whole} == {"invalid_form", "body_truncated"}


@given(text=st.text(alphabet="abc;=\"\\\t %*'", max_size=40))
async def test_no_header_crashes_it(text: str) -> None:
    assert await outcome([part(f"form-data; name=chunk; {text}"), END])
