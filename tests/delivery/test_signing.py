"""Signatures, against other people's words and another library's arithmetic."""

import base64

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.delivery.signing import signed_headers, signing_key


def test_the_example_of_those_who_made_the_scheme_comes_out() -> None:
    # Svix's, in its page on verifying by hand; Standard Webhooks took the scheme over from them.
    headers = signed_headers(
        signing_key("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
    )
    assert headers["Webhook-Signature"] == "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("any text will do here", b"any text will do here"),
        ("whsec_" + base64.b64encode(b"\x00\xff" * 16).decode(), b"\x00\xff" * 16),
    ],
)
def test_it_is_an_hmac_over_id_timestamp_and_body(secret: str, key: bytes) -> None:
    headers = signed_headers(signing_key(secret), "session:7", 1763719200, b"\x00 body \xff")
    mac = HMAC(key, SHA256())
    mac.update(b"session:7.1763719200.\x00 body \xff")
    assert headers == {
        "Webhook-Id": "session:7",
        "Webhook-Timestamp": "1763719200",
        "Webhook-Signature": "v1," + base64.b64encode(mac.finalize()).decode(),
    }


def test_a_broken_secret_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="base64"):
        signing_key("whsec_not base64!")
