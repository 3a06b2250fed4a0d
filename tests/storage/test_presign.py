"""The query signer against three independent ones: botocore's two, MinIO's, and AWS's own vector."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.utils import percent_encode, percent_encode_sequence
from hypothesis import given, settings
from hypothesis import strategies as st
from minio import Minio

from gateway.errors import InvalidRequest, Unavailable
from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner

NOW = datetime(2026, 11, 21, 10, 30, 15, 678_000, tzinfo=UTC)
CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
LOCAL = QuerySigner(Endpoint.parse("http://127.0.0.1:8333"), "us-east-1")

ODD_KEYS = (
    "a b.txt",
    "a+b&c=d?e#f%20g%2Fh",
    "~tilde/._-",
    "/leading slash",
    "doubled//slash/",
    "../up/./here/..",
    "日本語/é/e\u0301/😀👩‍👩‍👧.mov",
    "quote\"'<>[]{}|\\^`;,:@!$*()",
    "control\x01\x7f\n\t",
    "\u00a0\u2028\ufeff",
)


@dataclass(frozen=True)
class Place:
    """An endpoint, in the words of its owner and as botocore is to see it."""

    scheme: str
    authority: str
    base_path: str
    addressing: Literal["path", "virtual"]
    port: str

    @property
    def endpoint(self) -> Endpoint:
        url = f"{self.scheme}://{self.authority.upper()}{self.port}{self.base_path}"
        return Endpoint.parse(url, addressing=self.addressing)

    def url(self, bucket: str, key: str) -> str:
        default = {"http": ":80", "https": ":443"}[self.scheme]
        port = "" if self.port == default else self.port
        path = percent_encode(key, safe="/-._~")
        if self.addressing == "virtual":
            return f"{self.scheme}://{bucket}.{self.authority}{port}{self.base_path}/{path}"
        return f"{self.scheme}://{self.authority}{port}{self.base_path}/{bucket}/{path}"


visible = st.characters(codec="ascii", exclude_categories=["Cc"])
secrets = st.text(visible, min_size=1, max_size=40).filter(lambda text: text == text.strip())
keys = st.sampled_from(ODD_KEYS) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200
)
buckets = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)
times = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds.
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))]),
)
credentials = st.builds(Credentials, secrets, secrets, st.none() | secrets)
places = st.builds(
    Place,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["localhost", "s3.eu-west-1.amazonaws.com", "store_1", "my.minio"]),
    st.sampled_from(["", "/base", "/a/b.c"]),
    st.sampled_from(["path", "virtual"]),
    st.sampled_from(["", ":80", ":443", ":9000", ":65535"]),
) | st.builds(
    Place,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["127.0.0.1", "[::1]", "[2001:db8::7]"]),
    st.just(""),
    st.just("path"),
    st.sampled_from(["", ":80", ":9000"]),
)
# Names that botocore or the signer treat in their own way are tried one by one further down.
queries = st.lists(
    st.tuples(
        st.sampled_from(["response-content-type", "response-content-disposition", "versionId"])
        | st.text(min_size=1, max_size=10).filter(lambda name: "x-amz-" not in name.lower()),
        st.text(max_size=30),
    ),
    max_size=4,
    unique_by=lambda pair: pair[0],
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "Content-Length",
            "content-type",
            "Content-MD5",
            "x-amz-checksum-crc32c",
            "X-Amz-Meta-Gw-Session",
            "x-amz-server-side-encryption",
            "If-None-Match",
        ]
    ),
    st.text(st.sampled_from(string.ascii_letters + string.punctuation + "  \t"), max_size=30),
    max_size=5,
)
lifetimes = st.integers(1, 604_800)


def sign_with_botocore(
    *,
    key: Credentials,
    method: str,
    url: str,
    query: Sequence[tuple[str, str]],
    signed_headers: dict[str, str],
    expires_in: int,
    now: datetime,
) -> str:
    """Sign with botocore's reference implementation, its clock standing still at `now`."""
    if query:
        url += "?" + percent_encode_sequence(query)
    request = AWSRequest(method=method, url=url, headers=signed_headers)
    signer = S3SigV4QueryAuth(
        BotocoreCredentials(key.access_key_id, key.secret_access_key, key.session_token),
        "s3",
        "eu-west-1",
        expires=expires_in,
    )
    naive = now.astimezone(UTC).replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=naive):
        signer.add_auth(request)
    url = request.url
    assert isinstance(url, str)
    return url


def query_of(url: str) -> list[tuple[str, str]]:
    return sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))


# A busy machine is no failure: nothing here is about time.
@settings(deadline=None)
@given(
    key=credentials,
    place=places,
    method=st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "POST"]),
    bucket=buckets,
    name=keys,
    query=queries,
    signed_headers=headers,
    expires_in=lifetimes,
    now=times,
)
def test_a_url_equals_botocores_byte_for_byte(
    *,
    key: Credentials,
    place: Place,
    method: str,
    bucket: str,
    name: str,
    query: list[tuple[str, str]],
    signed_headers: dict[str, str],
    expires_in: int,
    now: datetime,
) -> None:
    name = name.encode()[:1_000].decode(errors="ignore")
    signed = QuerySigner(place.endpoint, "eu-west-1").presign(
        key,
        method,
        bucket,
        name,
        expires_in=expires_in,
        now=now,
        query=query,
        headers=signed_headers,
    )
    assert signed.url == sign_with_botocore(
        key=key,
        method=method,
        url=place.url(bucket, name),
        query=query,
        signed_headers=signed_headers,
        expires_in=expires_in,
        now=now,
    )


# A busy machine is no failure: nothing here is about time.
@settings(deadline=None)
@given(
    key=credentials,
    place=places,
    bucket=buckets,
    name=keys,
    upload_id=st.text(min_size=1, max_size=60),
    parts=st.lists(
        st.tuples(
            st.integers(1, 10_000),
            st.integers(0, 5 * 1024**3),
            st.none()
            | st.tuples(
                st.sampled_from(
                    ["content-md5", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme"]
                ),
                st.sampled_from(["yZRlqg==", "AAAAAAAAAAA=", "+/9qpw=="]),
            ),
        ),
        min_size=1,
        max_size=6,
    ),
    expires_in=lifetimes,
    now=times,
)
def test_every_part_url_of_a_batch_equals_botocores_byte_for_byte(
    *,
    key: Credentials,
    place: Place,
    bucket: str,
    name: str,
    upload_id: str,
    parts: list[tuple[int, int, tuple[str, str] | None]],
    expires_in: int,
    now: datetime,
) -> None:
    name = name.encode()[:1_000].decode(errors="ignore")
    batch = QuerySigner(place.endpoint, "eu-west-1").parts(
        key, bucket, name, upload_id, expires_in=expires_in, now=now
    )
    for number, size, checksum in parts:
        signed = batch.sign(number, size, checksum)
        bound = {"Content-Length": str(size)} | dict([checksum] if checksum else [])
        query = [("uploadId", upload_id), ("partNumber", str(number))]
        assert signed.url == sign_with_botocore(
            key=key,
            method="PUT",
            url=place.url(bucket, name),
            query=query,
            signed_headers=bound,
            expires_in=expires_in,
            now=now,
        )
        assert (signed.number, signed.size) == (number, size)
        assert signed.headers == dict([checksum] if checksum else [])


@pytest.fixture(scope="module", params=["path", "virtual"])
def client_and_signer(request: pytest.FixtureRequest) -> tuple[Any, QuerySigner]:
    session = botocore.session.get_session()
    session.set_credentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key, "tok/+=")
    url = "https://store.example:9000"
    client = session.create_client(
        "s3",
        region_name="eu-west-1",
        endpoint_url=url,
        config=Config(signature_version="s3v4", s3={"addressing_style": request.param}),
    )
    return client, QuerySigner(Endpoint.parse(url, addressing=request.param), "eu-west-1")


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize(
    ("operation", "method", "parameters", "query", "signed_headers"),
    [
        (
            "upload_part",
            "PUT",
            {
                "UploadId": "u/+=~ x",
                "PartNumber": 3,
                "ContentLength": 5,
                "ChecksumCRC32C": "yZRlqg==",
            },
            [("uploadId", "u/+=~ x"), ("partNumber", "3")],
            {"content-length": "5", "x-amz-checksum-crc32c": "yZRlqg=="},
        ),
        (
            "get_object",
            "GET",
            {
                "ResponseContentType": "video/mp4",
                "ResponseContentDisposition": "attachment; filename*=UTF-8''%C3%A9.mp4",
            },
            [
                ("response-content-disposition", "attachment; filename*=UTF-8''%C3%A9.mp4"),
                ("response-content-type", "video/mp4"),
            ],
            {},
        ),
        (
            "put_object",
            "PUT",
            {
                "ContentType": "a/b",
                "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg==",
                "Metadata": {"A": "b"},
            },
            [],
            {"content-type": "a/b", "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==", "x-amz-meta-a": "b"},
        ),
        ("head_object", "HEAD", {}, [], {}),
        ("delete_object", "DELETE", {"VersionId": "v 1"}, [("versionId", "v 1")], {}),
    ],
)
def test_a_url_says_what_botocores_client_makes_of_the_same_operation(
    *,
    client_and_signer: tuple[Any, QuerySigner],
    key: str,
    operation: str,
    method: str,
    parameters: dict[str, Any],
    query: list[tuple[str, str]],
    signed_headers: dict[str, str],
) -> None:
    client, signer = client_and_signer
    with (
        mock.patch("botocore.crt.auth.get_current_datetime", return_value=NOW),
        mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)),
    ):
        theirs = client.generate_presigned_url(
            operation, Params={"Bucket": "films", "Key": key, **parameters}, ExpiresIn=60
        )
    ours = signer.presign(
        Credentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key, "tok/+="),
        method,
        "films",
        key,
        expires_in=60,
        now=NOW,
        query=query,
        headers=signed_headers,
    )
    assert ours.url.partition("?")[0] == theirs.partition("?")[0]
    assert query_of(ours.url) == query_of(theirs)


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if ".." not in key])
def test_a_download_url_says_what_the_minio_sdk_makes_of_it(key: str) -> None:
    overrides = {"response-content-type": "video/mp4", "response-content-disposition": 'a; b="c d"'}
    theirs = Minio(
        "127.0.0.1:8333",
        CREDENTIALS.access_key_id,
        CREDENTIALS.secret_access_key,
        region="us-east-1",
        secure=False,
    ).presigned_get_object(
        "films",
        key,
        expires=timedelta(seconds=60),
        response_headers=overrides,
        request_date=NOW,
    )
    ours = LOCAL.presign(
        CREDENTIALS, "GET", "films", key, expires_in=60, now=NOW, query=list(overrides.items())
    )
    assert ours.url.partition("?")[0] == theirs.partition("?")[0]
    assert query_of(ours.url) == query_of(theirs)


def test_the_example_in_the_documentation_of_aws_comes_out_as_printed_there() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    signer = QuerySigner(
        Endpoint.parse("https://s3.amazonaws.com", addressing="virtual"), "us-east-1"
    )
    signed = signer.presign(
        Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        "GET",
        "examplebucket",
        "test.txt",
        expires_in=86_400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert signed.url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_headers_to_send_are_folded_and_leave_out_what_http_clients_set() -> None:
    signed = LOCAL.presign(
        CREDENTIALS,
        "PUT",
        "films",
        "k",
        expires_in=60,
        now=NOW,
        headers={"Content-Length": "5", "X-Amz-Meta-A": " b \t  c "},
    )
    assert signed.headers == {"x-amz-meta-a": "b c"}


def test_the_end_of_a_urls_life_is_the_one_the_store_will_compute() -> None:
    signed = LOCAL.presign(CREDENTIALS, "GET", "films", "k", expires_in=60, now=NOW)
    assert signed.expires_at == NOW.replace(microsecond=0) + timedelta(seconds=60)
    batch = LOCAL.parts(CREDENTIALS, "films", "k", "u", expires_in=60, now=NOW)
    assert batch.sign(1, 5).expires_at == signed.expires_at


def test_a_url_never_outlives_the_credentials() -> None:
    ending = Credentials("id", "secret", "token", expires_at=NOW + timedelta(seconds=30))
    signed = LOCAL.presign(ending, "GET", "films", "k", expires_in=900, now=NOW)
    assert ("X-Amz-Expires", "30") in query_of(signed.url)
    assert signed.expires_at <= NOW + timedelta(seconds=30)
    for late in (timedelta(seconds=30), timedelta(days=1)):
        with pytest.raises(Unavailable):
            LOCAL.presign(ending, "GET", "films", "k", expires_in=900, now=NOW + late)


def test_a_secret_shows_in_no_repr() -> None:
    secret = Credentials("AKID", "the-secret", "the-token")
    batch = LOCAL.parts(secret, "films", "k", "u", expires_in=60, now=NOW)
    signed = LOCAL.presign(secret, "GET", "films", "k", expires_in=60, now=NOW)
    part = batch.sign(1, 5)
    shown = repr([secret, batch, batch.grant, batch.templates, signed, part, LOCAL])
    for hidden in ("the-secret", "the-token", "Signature", "X-Amz"):
        assert hidden not in shown


@pytest.mark.parametrize("expires_in", [0, -1, 604_801])
def test_a_life_outside_what_s3_allows_is_refused(expires_in: int) -> None:
    with pytest.raises(InvalidRequest) as raised:
        LOCAL.presign(CREDENTIALS, "GET", "films", "k", expires_in=expires_in, now=NOW)
    assert raised.value.hint
    with pytest.raises(InvalidRequest):
        LOCAL.parts(CREDENTIALS, "films", "k", "u", expires_in=expires_in, now=NOW)


@pytest.mark.parametrize(
    ("number", "size", "checksum"),
    [
        (0, 5, None),
        (-1, 5, None),
        (10_001, 5, None),
        (1, -1, None),
        (1, 5, ("x-amz-checksum-crc32c", "")),
        (1, 5, ("x-amz-checksum-crc32c", "not base64")),
        (1, 5, ("x-amz-checksum-crc32c", "yZRlqg==\nhost:evil")),
        (1, 5, ("X-Amz-Checksum-CRC32C", "yZRlqg==")),
        (1, 5, ("x-amz-meta-a", "yZRlqg==")),
        (1, 5, ("", "yZRlqg==")),
    ],
)
def test_a_part_that_cannot_be_is_refused(
    number: int, size: int, checksum: tuple[str, str] | None
) -> None:
    batch = LOCAL.parts(CREDENTIALS, "films", "k", "u", expires_in=60, now=NOW)
    # A good part first: a template that is already there must not let a bad value through.
    batch.sign(1, 5, ("x-amz-checksum-crc32c", "yZRlqg=="))
    with pytest.raises(InvalidRequest) as raised:
        batch.sign(number, size, checksum)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("films", ""),
        ("films", "k" * 1_025),
        ("films", "é" * 513),
        ("films", "\ud800"),
        ("", "k"),
        ("a/b", "k"),
        ("a?b=", "k"),
        ("..", "k"),
        ("films\n", "k"),
    ],
)
def test_what_is_no_bucket_or_key_is_refused(bucket: str, key: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        LOCAL.presign(CREDENTIALS, "DELETE", bucket, key, expires_in=60, now=NOW)
    assert raised.value.hint


@pytest.mark.parametrize(
    "query",
    [
        [("a", "1"), ("a", "2")],
        [("", "1")],
        [("X-Amz-Expires", "604800")],
        [("x-amz-signature", "0")],
        [("a", "\ud800")],
    ],
)
def test_a_query_that_would_mean_two_things_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest):
        LOCAL.presign(CREDENTIALS, "GET", "films", "k", expires_in=60, now=NOW, query=query)


@pytest.mark.parametrize(
    "signed_headers",
    [
        {"Host": "evil"},
        {"User-Agent": "a"},
        {"Authorization": "a"},
        {"a:b": "c"},
        {"": "c"},
        {"A": "1", "a": "2"},
        {"a": "1\r\nhost: evil"},
        {"a": "é"},
    ],
)
def test_a_header_that_cannot_be_bound_is_refused(signed_headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        LOCAL.presign(
            CREDENTIALS, "GET", "films", "k", expires_in=60, now=NOW, headers=signed_headers
        )


def test_a_method_a_naive_time_or_an_upload_without_id_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        LOCAL.presign(CREDENTIALS, "put", "films", "k", expires_in=60, now=NOW)
    with pytest.raises(InvalidRequest):
        LOCAL.presign(CREDENTIALS, "GET", "films", "k", expires_in=60, now=NOW.replace(tzinfo=None))
    with pytest.raises(InvalidRequest):
        LOCAL.parts(CREDENTIALS, "films", "k", "", expires_in=60, now=NOW)


@pytest.mark.parametrize(
    ("access_key_id", "secret", "token"),
    [("", "s", None), ("a", "", None), ("a", "s\n", None), ("a", "s", "t\r\n"), ("é", "s", None)],
)
def test_credentials_that_cannot_work_are_refused_unshown(
    access_key_id: str, secret: str, token: str | None
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Credentials(access_key_id, secret, token)
    assert raised.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.example",
        "ftp://store.example",
        "http://",
        "http://user:password@store.example",
        "http://store.example?a=b",
        "http://store.example#a",
        "http://store.example:0",
        "http://store.example:65536",
        "http://store.example:x",
        "http://sto re.example",
        "http://store.example\n",
        "http://bücket.example",
        "http://[::1",
        "http://[fe80::1%25eth0]",
        "http://[::1::2]",
        "http://store.example/a//b",
        "http://store.example/a%2Fb",
    ],
)
def test_an_endpoint_that_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Endpoint.parse(url)
    assert raised.value.hint
    assert "password" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://[::1]"])
def test_an_address_does_not_take_the_bucket_into_its_host_name(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Endpoint.parse(url, addressing="virtual")


def test_a_bucket_that_is_no_host_name_needs_path_style() -> None:
    for bucket in ("Films", "my_films", "-films"):
        with pytest.raises(InvalidRequest):
            Endpoint.parse("http://store.example", addressing="virtual").locate(bucket, "k")
    assert Endpoint.parse("http://store.example").locate("My_Films", "k") == (
        "store.example",
        "/My_Films/k",
    )


@pytest.mark.parametrize("region", ["", "us east", "us-east-1/s3", "ü"])
def test_a_region_that_is_no_name_is_refused(region: str) -> None:
    with pytest.raises(InvalidRequest):
        QuerySigner(LOCAL.endpoint, region)
