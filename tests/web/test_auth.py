"""Who calls: a bearer token, or somebody on this machine who is no foreign page."""

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.errors import Forbidden, InvalidRequest, Unauthenticated
from gateway.web.auth import (
    LoopbackAuthenticator,
    TokenAuthenticator,
    authenticator,
    check_host,
    is_loopback_host,
)

TOKEN = "correct-horse-battery"


def request(*headers: tuple[str, str]) -> object:
    return make_mocked_request("GET", "/uploads", CIMultiDict(headers))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token_is_its_principal(scheme: str) -> None:
    principal = TokenAuthenticator(TOKEN).authenticate(
        request(("Authorization", f"{scheme} {TOKEN}"))
    )
    assert principal.principal_id == "local"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")],
        [("X-Token", TOKEN)],
    ],
)
def test_anything_else_is_nobody(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated) as raised:
        TokenAuthenticator(TOKEN).authenticate(request(*headers))
    assert raised.value.hint
    assert TOKEN not in str(raised.value)


def test_an_empty_token_is_refused_when_it_is_set() -> None:
    with pytest.raises(ValueError, match="empty"):
        TokenAuthenticator("")
    assert isinstance(authenticator(None), LoopbackAuthenticator)
    assert isinstance(authenticator(TOKEN), TokenAuthenticator)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST:8000",
        "localhost.",
        "app.localhost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_loopback_names_are_known(host: str) -> None:
    assert is_loopback_host(host)
    loopback = LoopbackAuthenticator()
    assert loopback.authenticate(request(("Host", host))).principal_id == "local"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "evil.example/localhost",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104 - looked at, not bound.
        "[::]",
        "[::ffff:10.0.0.1]",
        "localhost:99999999",
        "localhost:port",
        "localhost evil.example",
    ],
)
def test_a_rebound_name_is_refused(host: str) -> None:
    assert not is_loopback_host(host)
    with pytest.raises(Forbidden) as raised:
        LoopbackAuthenticator().authenticate(request(("Host", host)))
    assert raised.value.code == "host_not_allowed"


@given(st.text())
def test_no_host_whatever_breaks_the_check(host: str) -> None:
    assert is_loopback_host(host) in {True, False}


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:8000", "https://localhost:8000", "https://app.example"],
)
def test_our_own_page_and_named_pages_may_call(origin: str) -> None:
    loopback = LoopbackAuthenticator(["https://app.example"])
    loopback.check_origin(request(("Host", "localhost:8000"), ("Origin", origin)))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://localhost:9000",
        "http://localhost",
        "http://127.0.0.1:8000",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "file://",
    ],
)
def test_other_pages_may_not_call_without_a_token(origin: str) -> None:
    loopback = LoopbackAuthenticator(["https://app.example"])
    with pytest.raises(Forbidden) as raised:
        loopback.check_origin(request(("Host", "localhost:8000"), ("Origin", origin)))
    assert raised.value.code == "origin_not_allowed"


def test_with_a_token_the_origin_does_not_matter() -> None:
    TokenAuthenticator(TOKEN).check_origin(
        request(("Host", "gateway.example"), ("Origin", "https://any.example"))
    )


@pytest.mark.parametrize("hosts", [[], ["a", "a"], ["a/b"], ["a:b"], [""], ["a,b"]])
def test_exactly_one_host_is_needed(hosts: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        check_host(request(*(("Host", host) for host in hosts)))


def test_without_credentials_a_page_must_be_of_a_known_origin() -> None:
    auth = authenticator(TOKEN, ["https://app.example", "https://uploads.example"])
    host = ("Host", "uploads.example")
    for origin in ("https://app.example", "https://uploads.example"):
        auth.check_page(request(host, ("Origin", origin)))
    auth.check_page(request(host))
    for origin in ("https://evil.example", "null", "https://uploads.example.evil.example", ""):
        with pytest.raises(Forbidden) as raised:
            auth.check_page(request(host, ("Origin", origin)))
        assert raised.value.code == "origin_not_allowed"


@pytest.mark.parametrize("host", ["192.0.2.7:8000", "[2001:db8::7]", "localhost:8000"])
def test_without_credentials_a_page_of_the_same_address_may_call(host: str) -> None:
    authenticator(TOKEN).check_page(request(("Host", host), ("Origin", f"http://{host}")))


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8000", "192.0.2.7.example"])
def test_without_credentials_a_name_that_leads_here_for_a_moment_opens_nothing(host: str) -> None:
    with pytest.raises(Forbidden) as raised:
        authenticator(TOKEN).check_page(request(("Host", host), ("Origin", f"http://{host}")))
    assert raised.value.code == "origin_not_allowed"
