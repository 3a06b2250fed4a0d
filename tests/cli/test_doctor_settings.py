"""What the doctor says of settings alone: tokens, encryption, certificates, addresses."""

from datetime import timedelta
from pathlib import Path

import pytest
from certificates import Authority

from gateway.cli.certificate import look_at_certificate
from gateway.cli.doctor import _look_at, _origins
from gateway.config import Settings, document, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for setting in document():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


GOOD_TOKEN = "7f3a9c51e8b2d4067a1c"


def settings(**flags: object) -> Settings:
    return load_settings({"s3_bucket": "bucket", "token": GOOD_TOKEN, **flags})


def level(name: str, **flags: object) -> str:
    (row,) = (row for row in _look_at(settings(**flags)) if row.name == name)
    assert bool(row.fix) == (row.level != "ok")
    return row.level


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (GOOD_TOKEN, "ok"),
        ("short-1234", "warn"),
        ("abababababababababababababab", "warn"),
        ("replace-me-by-the-output-of-openssl-rand-hex-32", "warn"),
        ("my-secret-token-2026-very-long", "warn"),
    ],
)
def test_a_token_that_can_be_guessed_is_a_warning(token: str, expected: str) -> None:
    assert level("token", token=token) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, "ok"),
        ({"host": "0.0.0.0"}, "warn"),  # noqa: S104 - nothing listens.
        ({"public_url": "http://up.example"}, "warn"),
        ({"public_url": "http://localhost:8000"}, "ok"),
        ({"public_url": "https://up.example"}, "warn"),
        ({"public_url": "https://up.example", "trusted_proxies": "127.0.0.1"}, "ok"),
    ],
)
def test_tokens_that_travel_in_the_clear_are_a_warning(
    flags: dict[str, str], expected: str
) -> None:
    if flags.get("public_url") == "http://localhost:8000":
        flags = {**flags, "trusted_proxies": "127.0.0.1"}
    assert level("encryption", **flags) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, "ok"),
        ({"s3_endpoint": "http://127.0.0.1:9000"}, "ok"),
        ({"s3_endpoint": "http://127.0.0.1:9000", "host": "::"}, "warn"),
        ({"s3_endpoint": "http://[::1]:9000", "public_url": "https://up.example"}, "warn"),
        # Pages of https may not send anything to plain http.
        ({"s3_endpoint": "http://store.example", "public_url": "https://up.example"}, "warn"),
        ({"s3_endpoint": "http://store.example", "public_url": "http://up.example"}, "ok"),
        ({"s3_endpoint": "https://store.example", "public_url": "https://up.example"}, "ok"),
    ],
)
def test_part_urls_that_clients_cannot_use_are_a_warning(
    flags: dict[str, str], expected: str
) -> None:
    assert level("public endpoint", **flags) == expected


def test_the_store_is_asked_for_the_page_where_clients_see_it() -> None:
    origins = {"cors_origins": "https://app.example"}
    assert _origins(settings(**origins)) == ["http://127.0.0.1:8000", "https://app.example"]
    public = settings(public_url="https://up.example", **origins)
    assert _origins(public) == ["https://up.example", "https://app.example"]


def certificate(folder: Path, life: timedelta, **flags: str) -> dict[str, tuple[str, str]]:
    pair = Authority(folder).issue("gateway", "up.example", life=life)
    found = look_at_certificate(settings(tls_cert=str(pair.cert), tls_key=str(pair.key), **flags))
    return {row.name: (row.level, row.detail) for row in found}


def test_a_certificate_is_looked_at_as_a_client_would(tmp_path: Path) -> None:
    found = certificate(tmp_path, timedelta(days=60.5), public_url="https://up.example")
    assert found["certificate"] == ("ok", "It is good for 60 more days.")
    assert found["certificate name"][0] == "ok"
    # The authority of the tests is known to the tests alone.
    assert found["certificate chain"][0] == "warn"


def test_a_certificate_that_ends_soon_or_has_another_name_is_a_warning(tmp_path: Path) -> None:
    found = certificate(tmp_path, timedelta(days=20.5), public_url="https://else.example")
    assert found["certificate"] == ("warn", "It is good for 20 more days.")
    assert found["certificate name"][0] == "warn"
    assert "else.example" in found["certificate name"][1]


def test_a_certificate_that_has_ended_or_cannot_be_used_fails(tmp_path: Path) -> None:
    ended = certificate(tmp_path, timedelta(days=-1))
    assert ended["certificate"][0] == "fail"
    assert "expired" in ended["certificate"][1]
    missing = look_at_certificate(settings(tls_cert="none.pem", tls_key="none.key"))
    assert [row.level for row in missing] == ["fail"]
    assert look_at_certificate(settings()) == []


def test_a_certificate_that_this_machine_trusts_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    found = certificate(tmp_path, timedelta(days=60))
    assert found["certificate chain"] == ("ok", "This machine trusts it.")
