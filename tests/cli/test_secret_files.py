"""Secrets in files that the environment names, and settings about what stands around the gateway."""

from pathlib import Path

import pytest

from gateway.config import SECRETS, Settings, document, load_settings
from gateway.errors import InvalidRequest

GIVEN = {
    "token": "a-token-of-the-file",
    "s3_access_key_id": "key-of-the-file",
    "s3_secret_access_key": "secret-of-the-file",
    "s3_session_token": "session-of-the-file",
    "redis_url": "rediss+sentinel://one,two/primary/0",
    "redis_password": "password-of-the-file",
    "redis_sentinel_password": "sentinel-of-the-file",
    "webhook_url": "https://hooks.example/of-the-file",
    "webhook_secret": "webhook-secret-of-the-file",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for setting in document():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GW_S3_BUCKET", "bucket")


def secret(folder: Path, text: str | bytes) -> str:
    path = folder / "secret"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def problem(**flags: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load_settings(flags)
    assert caught.value.code == "invalid_settings"
    return caught.value.message + caught.value.hint


def plain(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if isinstance(value, tuple):
        (value,) = value
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


def test_every_secret_can_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(GIVEN) == set(SECRETS)
    secret_fields = {
        name for name, info in Settings.model_fields.items() if "Secret" in str(info.annotation)
    }
    assert secret_fields <= set(SECRETS)
    for name, value in GIVEN.items():
        path = tmp_path / name
        path.write_text(value + "\n")
        monkeypatch.setenv(f"GW_{name.upper()}_FILE", str(path))
    settings = load_settings()
    assert {name: plain(settings, name) for name in GIVEN} == GIVEN
    assert "of-the-file" not in repr(settings).replace("key-of-the-file", "")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_line_breaks_at_the_end_are_not_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    monkeypatch.setenv("GW_REDIS_PASSWORD_FILE", secret(tmp_path, f" blanks count {end}"))
    assert plain(load_settings(), "redis_password") == " blanks count "


def test_both_the_secret_and_its_file_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GW_TOKEN_FILE", secret(tmp_path, "token-of-the-file"))
    monkeypatch.setenv("GW_TOKEN", "token-of-the-variable")
    message = problem()
    assert "GW_TOKEN_FILE" in message
    assert "GW_TOKEN is set too" in message
    assert "of-the" not in message
    # An empty variable is none, as compose leaves them.
    monkeypatch.setenv("GW_TOKEN", "")
    assert plain(load_settings(), "token") == "token-of-the-file"


def test_a_flag_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GW_TOKEN_FILE", secret(tmp_path, "token-of-the-file"))
    assert plain(load_settings({"token": "token-of-the-flag"}), "token") == "token-of-the-flag"


def test_credentials_of_files_are_not_mixed_with_those_of_aws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GW_S3_ACCESS_KEY_ID", "ours")
    monkeypatch.setenv("GW_S3_SECRET_ACCESS_KEY_FILE", secret(tmp_path, "our-secret"))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another's")
    settings = load_settings()
    assert plain(settings, "s3_secret_access_key") == "our-secret"
    assert settings.s3_session_token is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "one line"),
        (b"\n", "one line"),
        (b"hidden-1\nhidden-2\n", "one line"),
        (b"hidden" * 20_000, "one line"),
        (b"hidden\xff", "UTF-8"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, words: str
) -> None:
    monkeypatch.setenv("GW_TOKEN_FILE", secret(tmp_path, content))
    message = problem()
    assert words in message
    assert "GW_TOKEN_FILE" in message
    assert "hidden" not in message


def test_a_url_that_is_none_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GW_REDIS_URL", "redis://:hunter\N{ACCOUNT OF}2@host:6379/0")
    said = problem(redis_password="another")
    assert "redis_url" in said
    assert "hunter" not in said


def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GW_TOKEN_FILE", str(tmp_path / "none"))
    assert "No such file" in problem()
    monkeypatch.setenv("GW_TOKEN_FILE", str(tmp_path))
    assert "directory" in problem()


@pytest.mark.parametrize(
    "url",
    [
        "uploads.example.com",
        "ftp://uploads.example.com",
        "https://uploads.example.com/gateway",
        "https://user@uploads.example.com",
        "https://UPLOADS.example.com",
        "https://uploads.example.com:http",
        "https://uploads.example.com?x=1",
    ],
)
def test_the_public_url_is_scheme_host_and_port(url: str) -> None:
    assert "GW_PUBLIC_URL" in problem(public_url=url, token="long-enough")


def test_a_slash_at_the_end_of_the_public_url_is_nothing() -> None:
    settings = load_settings({"public_url": "https://up.example:8443/", "token": "long-enough"})
    assert settings.public_url == "https://up.example:8443"


def test_without_a_token_the_public_url_is_loopback() -> None:
    assert "public_url is elsewhere" in problem(public_url="https://uploads.example.com")
    assert load_settings({"public_url": "https://localhost:8443"}).token is None


@pytest.mark.parametrize("network", ["proxy.example", "10.0.0.1/8", "0.0.0.0/0", "::/0", "*"])
def test_proxies_are_addresses_or_networks_and_never_everybody(network: str) -> None:
    assert "GW_TRUSTED_PROXIES" in problem(trusted_proxies=f"127.0.0.1,{network}")


def test_several_proxies() -> None:
    settings = load_settings({"trusted_proxies": "10.0.0.0/8, 127.0.0.1,fd00::/8"})
    assert settings.trusted_proxies == ("10.0.0.0/8", "127.0.0.1", "fd00::/8")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"redis_url": "redis://:a@host/0", "redis_password": "b"}, "keep one"),
        (
            {"redis_url": "redis+sentinel://u:a@one:1,two:2/m/0", "redis_password": "b"},
            "keep one",
        ),
        ({"redis_url": "redis://host/0", "redis_ca": "ca.pem"}, "rediss://"),
        ({"redis_url": "rediss://host/0", "redis_sentinel_password": "b"}, "redis+sentinel://"),
        ({"tls_cert": "cert.pem"}, "come together"),
        ({"tls_key": "key.pem"}, "come together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, str], words: str) -> None:
    assert words in problem(**flags)
