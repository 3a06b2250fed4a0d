"""Where settings come from, which source wins, and what a wrong one is told."""

import inspect
from pathlib import Path

import pytest

from gateway.cli.doctor import doctor
from gateway.cli.serve import serve
from gateway.config import (
    Settings,
    document,
    duration_text,
    is_loopback,
    load_settings,
    parse_duration,
    parse_size,
)
from gateway.errors import InvalidRequest


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for setting in document():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


def toml(folder: Path, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(text)
    return str(path)


def problem(**flags: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load_settings(flags)
    assert caught.value.code == "invalid_settings"
    assert caught.value.hint
    return caught.value.message


def test_flags_win_over_the_environment_and_that_over_aws_names_and_those_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = {
        "s3_bucket": "bucket",
        "config": toml(tmp_path, 's3_region = "from-file"\nport = 1\n'),
    }
    assert load_settings({**flags, "config": None}).s3_region == "us-east-1"
    assert load_settings(flags).s3_region == "from-file"
    assert load_settings(flags).port == 1
    monkeypatch.setenv("AWS_DEFAULT_REGION", "from-aws-default")
    assert load_settings(flags).s3_region == "from-aws-default"
    monkeypatch.setenv("AWS_REGION", "from-aws")
    assert load_settings(flags).s3_region == "from-aws"
    monkeypatch.setenv("GW_S3_REGION", "from-environment")
    assert load_settings(flags).s3_region == "from-environment"
    assert load_settings({**flags, "s3_region": "from-flag"}).s3_region == "from-flag"


def test_the_file_can_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GW_CONFIG", toml(tmp_path, 's3_bucket = "from-file"'))
    assert load_settings().s3_bucket == "from-file"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GW_TOKEN", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    settings = load_settings({"s3_bucket": "bucket"})
    assert settings.token is None
    assert settings.s3_access_key_id is None


def test_credentials_are_never_mixed_out_of_two_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "aws")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "aws-token")
    config = toml(
        tmp_path,
        's3_bucket = "bucket"\ns3_access_key_id = "file"\n'
        's3_secret_access_key = "file-secret"\ns3_session_token = "file-token"\n',
    )
    settings = load_settings({"config": config})
    assert settings.s3_access_key_id == "aws"
    assert settings.s3_session_token is not None
    assert settings.s3_session_token.get_secret_value() == "aws-token"
    monkeypatch.setenv("GW_S3_ACCESS_KEY_ID", "ours")
    monkeypatch.setenv("GW_S3_SECRET_ACCESS_KEY", "our-secret")
    settings = load_settings({"config": config})
    assert settings.s3_access_key_id == "ours"
    assert settings.s3_session_token is None


def test_half_a_pair_of_keys_is_an_error() -> None:
    message = problem(s3_bucket="bucket", s3_access_key_id="only")
    assert "s3_secret_access_key" in message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example"])  # noqa: S104
def test_without_a_token_only_loopback_is_served(host: str) -> None:
    assert "token" in problem(s3_bucket="bucket", host=host)
    settings = load_settings({"s3_bucket": "bucket", "host": host, "token": "long-enough"})
    assert settings.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert load_settings({"s3_bucket": "bucket", "host": host}).token is None


@pytest.mark.parametrize("token", ["short", "with a blank", "with\nbreak", "ünicode-letters"])
def test_a_token_that_no_client_could_send_or_anybody_guess_is_refused(token: str) -> None:
    message = problem(s3_bucket="bucket", token=token)
    assert "GW_TOKEN" in message
    assert token not in message


@pytest.mark.parametrize(
    "origins",
    ["*", "https://*.example", "app.example", "https://app.example/", "https://App.example"],
)
def test_origins_are_exact(origins: str) -> None:
    assert "GW_CORS_ORIGINS" in problem(s3_bucket="bucket", cors_origins=origins)


def test_several_origins_in_a_flag_or_a_list_in_the_file(tmp_path: Path) -> None:
    expected = ("https://a.example", "http://b.example:8080")
    flags = {"s3_bucket": "bucket", "cors_origins": "https://a.example, http://b.example:8080"}
    assert load_settings(flags).cors_origins == expected
    config = toml(
        tmp_path,
        's3_bucket = "bucket"\ncors_origins = ["https://a.example", "http://b.example:8080"]',
    )
    assert load_settings({"config": config}).cors_origins == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("15m", 900), ("24h", 86_400), ("7d", 604_800)]
)
def test_durations_are_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["-1", "1w", "soon", "", "1 2", "1e9", "nan", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert "session_lifetime" in problem(s3_bucket="bucket", session_lifetime=text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("5B", 5),
        ("3kB", 3000),
        ("500MB", 500_000_000),
        ("8 MiB", 8_388_608),
        ("2.5gib", 2_684_354_560),
        ("0.1TB", 100_000_000_000),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert load_settings({"s3_bucket": "bucket", "max_file_size": text}).max_file_size == size


@pytest.mark.parametrize("text", ["0", "-1", "1M", "1 2", "1e9", "large", "nan", "1EB", "MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert "max_file_size" in problem(s3_bucket="bucket", max_file_size=text)


def test_file_types_are_extensions_and_media_types() -> None:
    settings = load_settings({"s3_bucket": "bucket", "allowed_types": ".MRC, image/*,.nii.gz"})
    assert settings.allowed_types == (".mrc", "image/*", ".nii.gz")
    assert "'mrc'" in problem(s3_bucket="bucket", allowed_types="mrc,.tif")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("workers", "0"),
        ("url_lifetime", "8d"),
        ("url_lifetime", "0"),
        ("s3_addressing", "host"),
        ("s3_endpoint", "s3.example.com"),
        ("s3_endpoint", "http://user:hunter2@s3.example"),
        ("s3_public_endpoint", "ftp://s3.example"),
        ("redis_url", "http://redis"),
        ("redis_prefix", "with space"),
        ("redis_prefix", "{tag}"),
        ("log_level", "loud"),
        ("client_keys", "perhaps"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_not_repeated(name: str, value: str) -> None:
    message = problem(s3_bucket="bucket", **{name: value})
    assert f"GW_{name.upper()}" in message
    assert "hunter2" not in message


def test_all_wrong_settings_are_named_at_once() -> None:
    message = problem(port="x", workers="y")
    assert all(name in message for name in ("GW_PORT", "GW_WORKERS", "GW_S3_BUCKET"))


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    config = toml(tmp_path, 's3_bucket = "bucket"\ns3_buckett = "typo"')
    assert "s3_buckett: there is no such setting" in problem(config=config)


@pytest.mark.parametrize("text", ["port = ", "\xff\xfe", "[[["])
def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(text.encode("latin-1"))
    assert "gateway.toml is not TOML" in problem(config=str(path))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in problem(config=str(tmp_path / "none.toml"))


def test_secrets_do_not_show(tmp_path: Path) -> None:
    config = toml(tmp_path, 's3_session_token = "hidden-1"')
    settings = load_settings(
        {
            "config": config,
            "s3_bucket": "bucket",
            "token": "hidden-token",
            "s3_access_key_id": "key",
            "s3_secret_access_key": "hidden-2",
            "redis_url": "redis://:hidden-3@127.0.0.1/0",
        }
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings.model_dump())


@pytest.mark.parametrize("command", [serve, doctor])
def test_every_setting_is_a_flag(command: object) -> None:
    offered = set(inspect.signature(command).parameters)  # type: ignore[arg-type]
    assert set(Settings.model_fields) <= offered


def test_every_setting_is_described() -> None:
    for setting in document():
        assert len(setting.description) > 20, setting.name
        assert setting.description.endswith((".", "unset.")), setting.name
