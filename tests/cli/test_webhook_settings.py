"""Which webhooks may be set, and what a wrong one is told."""

import pytest

from gateway.app import webhook_endpoints
from gateway.config import document, load_settings
from gateway.errors import InvalidRequest

SECRET = "a-secret-of-the-tests"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for setting in document():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GW_S3_BUCKET", "bucket")


def problem(**flags: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load_settings({"webhook_secret": SECRET, **flags})
    assert "s3cret" not in caught.value.message
    return caught.value.message


def test_several_are_separated_by_commas_or_blanks_and_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "GW_WEBHOOK_URL", "https://a.example/x, https://b.example https://a.example/x"
    )
    endpoints = webhook_endpoints(load_settings({"webhook_secret": SECRET}))
    assert [one.url for one in endpoints] == ["https://a.example/x", "https://b.example"]
    assert len({one.endpoint_id for one in endpoints}) == 2


def test_only_hosts_that_are_named_may_be_anywhere_and_speak_plain_http() -> None:
    settings = load_settings(
        {
            "webhook_secret": SECRET,
            "webhook_url": "http://Hooks.internal:81/ http://[::1]/ https://10.0.0.7 https://public.example",
            "webhook_allow_hosts": "HOOKS.internal, ::1",
        }
    )
    assert [one.anywhere for one in webhook_endpoints(settings)] == [True, True, False, False]
    assert "plain http" in problem(webhook_url="http://public.example/?key=s3cret")
    assert "plain http" in problem(
        webhook_url="http://hooks.internal.example/", webhook_allow_hosts="hooks.internal"
    )


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example",
        "ftp://hooks.example/s3cret",
        "https://",
        "https://hooks.example/#s3cret",
        "https://hooks.example:port/s3cret",
        "https://hooks.example:99999/s3cret",
        "https://[hooks/s3cret",
        "https://hööks.example/s3cret",
        "https://hooks.example/\x00s3cret",
    ],
)
def test_what_is_no_usable_url_is_told_without_repeating_it(url: str) -> None:
    assert "webhook_url" in problem(webhook_url=url)


@pytest.mark.parametrize("host", ["https://hooks.internal", "hooks:81", "a/b", "u@h", "[x", "*"])
def test_what_is_no_host_is_told(host: str) -> None:
    if host == "*":
        # A name that no URL has: it allows nothing.
        assert load_settings({"webhook_allow_hosts": host}).webhook_allow_hosts == ("*",)
    else:
        assert "webhook_allow_hosts" in problem(webhook_allow_hosts=host)


def test_a_webhook_needs_a_secret_that_nobody_guesses() -> None:
    url = "https://hooks.example/"
    assert "webhook_secret" in problem(webhook_url=url, webhook_secret=None)
    assert "16" in problem(webhook_url=url, webhook_secret="s3cret")
    assert "base64" in problem(webhook_url=url, webhook_secret="whsec_s3cret is no base64!")


def test_there_are_not_more_than_eight() -> None:
    urls = " ".join(f"https://hooks.example/{n}" for n in range(9))
    assert "webhook_url" in problem(webhook_url=urls)
