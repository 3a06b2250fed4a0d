"""Logs: one line an event, and no secret in any of them."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import LogOptions, configure_logging, scrub, scrub_text

SIGNATURE = "0123456789abcdef" * 4
PRESIGNED = (
    "http://127.0.0.1:8333/bucket/key?partNumber=1&uploadId=u&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential=AKIDEXAMPLE%2F20261121&X-Amz-Signature={SIGNATURE}"
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def raised_by(text: str) -> ValueError:
    with pytest.raises(ValueError, match="http") as raised:
        raise ValueError(text)
    return raised.value


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().rstrip("\n").split("\n")]


@pytest.mark.parametrize(
    "text",
    [
        PRESIGNED,
        f"GET {PRESIGNED} failed",
        f"ClientError('{PRESIGNED}')",
        f"x-amz-signature={SIGNATURE}",
        f"https://s3.example/k?AWSAccessKeyId=A&Expires=1&Signature={SIGNATURE}",
        f"Authorization: Bearer {SIGNATURE}",
        f"authorization: bearer {SIGNATURE}",
        f"{{'Authorization': 'Bearer {SIGNATURE}'}}",
        f"Basic {SIGNATURE}",
        f"AWS4-HMAC-SHA256 Credential=AKID/20261121/us-east-1/s3, Signature={SIGNATURE}",
        f"redis://:{SIGNATURE}@127.0.0.1:6379/0",
        f"redis://user:{SIGNATURE}@127.0.0.1:6379/0",
        f"token={SIGNATURE}&x=1",
        f'"secret_access_key": "{SIGNATURE}"',
        f"x-amz-security-token: {SIGNATURE}",
        f"password = {SIGNATURE}",
        f"GW_TOKEN={SIGNATURE}",
        f"api_key={SIGNATURE}",
    ],
)
def test_secrets_are_taken_out_of_texts(text: str) -> None:
    assert SIGNATURE in text
    assert SIGNATURE not in scrub_text(text)
    assert "[removed]" in scrub_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "The store answered 503 after 3 attempts.",
        "/uploads/0123456789abcdef0123456789abcdef/parts/sign",
        "part_number=7 size=8388608",
        "http://127.0.0.1:8000/",
        "A key is missing",
    ],
)
def test_harmless_texts_stay_as_they_are(text: str) -> None:
    assert scrub_text(text) == text


def test_secrets_are_taken_out_of_fields_by_name_and_depth() -> None:
    event = scrub(
        None,
        "info",
        {
            "event": "call",
            "token": SIGNATURE,
            "Authorization": SIGNATURE,
            "redis_password": SIGNATURE,
            "headers": {"Authorization": SIGNATURE, "Cookie": SIGNATURE, "Accept": "x"},
            "urls": [PRESIGNED, {"deep": (PRESIGNED,)}],
            "error": ValueError(PRESIGNED),
            "part_number": 7,
        },
    )
    assert SIGNATURE not in str(event)
    assert event["part_number"] == 7
    assert event["headers"]["Accept"] == "x"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=8,
    )
)
def test_no_value_whatever_breaks_a_log_line(value: Any) -> None:
    stream = io.StringIO()
    try:
        configure_logging(LogOptions(form="json"), stream)
        structlog.get_logger().info("event", value=value)
    finally:
        structlog.reset_defaults()
    assert len(lines(stream)) == 1


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    configure_logging(LogOptions(form="json"), stream)
    structlog.get_logger().info("upload\nfake line", size=1 << 80, odd="\ud800", what=object())
    (line,) = lines(stream)
    assert line["event"] == "upload\nfake line"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_a_traceback_is_scrubbed_too(stream: io.StringIO) -> None:
    configure_logging(LogOptions(form="json"), stream)
    structlog.get_logger().error("failed", exc_info=raised_by(PRESIGNED))
    (line,) = lines(stream)
    assert "Traceback" in line["exception"]
    assert SIGNATURE not in line["exception"]


def test_what_libraries_log_is_scrubbed_too(stream: io.StringIO) -> None:
    configure_logging(LogOptions(form="json"), stream)
    logging.getLogger("some.library").warning("calling %s", PRESIGNED)
    logging.getLogger("botocore.auth").debug("Signature:\n%s", SIGNATURE)
    (line,) = lines(stream)
    assert line["logger"] == "some.library"
    assert SIGNATURE not in stream.getvalue()


def test_the_last_configuration_counts(stream: io.StringIO) -> None:
    configure_logging(LogOptions(form="json"), io.StringIO())
    configure_logging(LogOptions(level="warning", form="text"), stream)
    structlog.get_logger().info("too low")
    logging.getLogger("library").warning("once")
    assert stream.getvalue().count("once") == 1
    assert "too low" not in stream.getvalue()
