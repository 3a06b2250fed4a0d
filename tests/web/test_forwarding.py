"""Whose word on the client's address is taken, and whose is not."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from gateways import FakeService, serving
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from structlog.testing import capture_logs

from gateway.doors.native import NativeDoor, NativeOptions
from gateway.errors import Forbidden
from gateway.web.auth import LoopbackAuthenticator
from gateway.web.forwarding import FRONT, Client, Front, FrontReader

PROXY = "10.0.0.7"
STRANGER = "198.51.100.9"
CLIENT = "203.0.113.5"
TRUSTED = ("10.0.0.0/8", "fd00::/8", "127.0.0.1")


@dataclass(frozen=True)
class Request:
    """What the reader looks at of a request; real ones are sent further down."""

    remote: str | None
    headers: CIMultiDict[str]


def seen(
    peer: str | None,
    *headers: tuple[str, str],
    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for",
    trusted: tuple[str, ...] = TRUSTED,
) -> Client:
    request: Any = Request(peer, CIMultiDict(headers))
    return FrontReader(Front(trusted=trusted, header=header)).client(request)


def test_without_proxies_the_client_is_the_peer() -> None:
    spoofed = (("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"))
    assert seen(STRANGER, *spoofed, trusted=()) == Client(STRANGER)
    assert seen(PROXY, *spoofed, trusted=()) == Client(PROXY)


def test_what_an_untrusted_peer_says_is_ignored() -> None:
    for header in ("x-forwarded-for", "forwarded"):
        assert seen(
            STRANGER,
            ("X-Forwarded-For", CLIENT),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", f"for={CLIENT};proto=https"),
            header=header,  # type: ignore[arg-type]  # mypy takes the loop's values for any text.
        ) == Client(STRANGER)


def test_a_trusted_proxy_tells_the_client_and_its_scheme() -> None:
    told = seen(PROXY, ("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"))
    assert told == Client(CLIENT, "https", proxy=PROXY)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (f"{STRANGER}, {CLIENT}", CLIENT),
        (f"127.0.0.1, {CLIENT}", CLIENT),
        (f"{CLIENT}, 10.0.0.1, 10.9.9.9", CLIENT),
        (f"{STRANGER}, {CLIENT}, 10.0.0.1", CLIENT),
        # All of them are ours: the one furthest away.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (f"{CLIENT}, unknown, 10.0.0.1", "10.0.0.1"),
        (f"{CLIENT}, <script>", PROXY),
        ("", PROXY),
        (",", PROXY),
        ("2001:db8::5", "2001:db8::5"),
        ("[2001:db8::5]:4711", "2001:db8::5"),
        (f"{CLIENT}:4711", CLIENT),
        (f"::ffff:{CLIENT}", CLIENT),
    ],
)
def test_the_right_most_hop_that_is_not_ours_is_the_client(chain: str, client: str) -> None:
    assert seen(PROXY, ("X-Forwarded-For", chain)).address == client


def test_several_headers_are_one_list() -> None:
    told = seen(PROXY, ("X-Forwarded-For", STRANGER), ("X-Forwarded-For", CLIENT))
    assert told.address == CLIENT


def test_only_the_header_that_the_proxies_write_is_read() -> None:
    forged = ("Forwarded", f"for={STRANGER};proto=https")
    told = seen(PROXY, forged, ("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "http"))
    assert told == Client(CLIENT, "http", proxy=PROXY)
    assert seen(PROXY, forged) == Client(PROXY)
    forged = ("X-Forwarded-For", STRANGER)
    told = seen(PROXY, forged, ("Forwarded", f"for={CLIENT}"), header="forwarded")
    assert told == Client(CLIENT, proxy=PROXY)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"for={STRANGER}, for={CLIENT};proto=https;by=10.0.0.7", CLIENT),
        (f'For="{CLIENT}:4711" ; Proto=https', CLIENT),
        ('for="[2001:db8::5]:4711"', "2001:db8::5"),
        ('for="_hidden"', PROXY),
        (f"for={CLIENT}, for=unknown", PROXY),
        ("proto=https", PROXY),
        # A client's open quote must not swallow what the proxy adds.
        (f'for="{STRANGER}, for={CLIENT}', CLIENT),
        (f'for="{STRANGER}, for="[2001:db8::5]"', PROXY),
        ("for=" + "a" * 2000 + f", for={CLIENT}", PROXY),
    ],
)
def test_forwarded_of_the_standard_is_read_where_it_is_asked_for(value: str, client: str) -> None:
    assert seen(PROXY, ("Forwarded", value), header="forwarded").address == client


@pytest.mark.parametrize("proto", ["ftp", "https, ftp", "", "javascript:"])
def test_a_scheme_that_is_none_is_not_believed(proto: str) -> None:
    assert seen(PROXY, ("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", proto)).scheme is None


def test_the_scheme_is_what_the_nearest_proxy_says() -> None:
    told = seen(PROXY, ("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https, http"))
    assert told.scheme == "http"


def test_a_peer_without_an_address_is_not_trusted() -> None:
    assert seen(None, ("X-Forwarded-For", CLIENT)).address is None


@given(st.text(max_size=80), st.text(max_size=80))
def test_nobody_can_be_anybody_by_what_they_write(left: str, right: str) -> None:
    # Whatever a client sends, the proxy adds where it came from.
    chain = f"{left},{right}, {CLIENT}".replace("\r", "").replace("\n", "")
    assert seen(PROXY, ("X-Forwarded-For", chain)).address == CLIENT
    assert seen(STRANGER, ("X-Forwarded-For", chain)).address == STRANGER


@given(st.text(alphabet='for=;," \\[]:.12', max_size=60))
def test_no_forwarded_of_a_client_names_another_one(text: str) -> None:
    told = seen(PROXY, ("Forwarded", f"{text}, for={CLIENT}"), header="forwarded")
    assert told.address in {CLIENT, PROXY}


@pytest.mark.parametrize("network", ["everybody", "10.0.0.1/8", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Front(trusted=(network,))


async def location(front: Front, *headers: tuple[str, str], service: FakeService) -> str:
    app = web.Application()
    app[FRONT] = FrontReader(front)
    door = NativeDoor(service, NativeOptions(version="1"))  # type: ignore[arg-type]  # A stand-in.
    async with (
        serving([door], app=app) as gateway,
        gateway.client.post(
            "/uploads", json={"filename": "a", "size": 1}, headers=CIMultiDict(headers)
        ) as answer,
    ):
        assert answer.status == 201, await answer.text()
        return answer.headers["Location"]


async def test_location_is_a_path_or_what_clients_see() -> None:
    service = FakeService()
    path = f"/uploads/{service.session.session_id}"
    front = ("Host", "up.example")
    told = (front, ("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"))
    assert await location(Front(), *told, service=service) == path
    assert await location(Front(trusted=("10.0.0.0/8",)), *told, service=service) == path
    behind = Front(trusted=("127.0.0.1",))
    assert await location(behind, *told, service=service) == f"https://up.example{path}"
    known = Front(public_url="https://uploads.example.com")
    assert await location(known, *told, service=service) == f"https://uploads.example.com{path}"


def test_without_a_host_an_address_stays_a_path() -> None:
    request: Any = Request(PROXY, CIMultiDict({"X-Forwarded-Proto": "https"}))
    assert FrontReader(Front(trusted=TRUSTED)).absolute(request, "/uploads/1") == "/uploads/1"


async def test_the_log_names_the_client_and_the_proxy() -> None:
    app = web.Application()
    app[FRONT] = FrontReader(Front(trusted=("127.0.0.1",)))
    headers = {"X-Forwarded-For": f"{STRANGER}, {CLIENT}"}
    with capture_logs() as logs:
        async with serving([], app=app) as gateway, gateway.client.get("/", headers=headers):
            pass
        async with serving([]) as gateway, gateway.client.get("/", headers=headers):
            pass
    known, unknown = (entry for entry in logs if entry["event"] == "request")
    assert (known["remote"], known["proxy"]) == (CLIENT, "127.0.0.1")
    assert unknown["remote"] == "127.0.0.1"
    assert "proxy" not in unknown


@pytest.mark.parametrize(
    "header", [("X-Forwarded-For", CLIENT), ("Forwarded", f'for="{CLIENT}:1"')]
)
def test_without_a_token_nobody_from_elsewhere_is_let_in_by_a_proxy(
    header: tuple[str, str],
) -> None:
    # nginx, left alone, names the gateway's own address in Host.
    headers = CIMultiDict([("Host", "127.0.0.1:8000"), header])
    with pytest.raises(Forbidden):
        LoopbackAuthenticator().check_origin(make_mocked_request("GET", "/uploads", headers))
    near = CIMultiDict({"Host": "127.0.0.1:8000", "X-Forwarded-For": "127.0.0.1"})
    LoopbackAuthenticator().check_origin(make_mocked_request("GET", "/uploads", near))
