"""What `gateway dev` says when everything is ready: to people, and in one line to scripts."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is running, and where. `pids` has one entry each for gateway, valkey and seaweed."""

    url: str
    token: str
    endpoint: str
    region: str
    bucket: str
    access_key_id: str
    secret_access_key: str
    redis_url: str
    data_dir: Path
    pids: dict[str, int]

    @property
    def upload_page(self) -> str:
        """The page's address with the token in its fragment, which browsers do not send."""
        return f"{self.url}/#token={self.token}"

    def as_json(self) -> str:
        """Return the line for scripts."""
        return orjson.dumps(
            {
                "url": self.url,
                "upload_page": self.upload_page,
                "token": self.token,
                "s3": {
                    "endpoint": self.endpoint,
                    "region": self.region,
                    "bucket": self.bucket,
                    "access_key_id": self.access_key_id,
                    "secret_access_key": self.secret_access_key,
                },
                "redis_url": self.redis_url,
                "data_dir": str(self.data_dir),
                "pids": self.pids,
            }
        ).decode()

    def as_text(self) -> str:
        """Return the text for people; every command in it can be pasted into a shell as it is."""
        bearer = shlex.quote(f"Authorization: Bearer {self.token}")
        created = shlex.quote('{"filename": "hello.txt", "size": 5, "sign": 1}')
        uploads = shlex.quote(f"{self.url}/uploads")
        return "\n".join(
            (
                "",
                _heading("The gateway is ready."),
                "",
                f"  Upload page    {self.upload_page}",
                f"  API            {self.url}  (Authorization: Bearer {self.token})",
                f"  S3 store       {self.endpoint}  (bucket {self.bucket}, region {self.region})",
                f"    access key   {self.access_key_id}",
                f"    secret key   {self.secret_access_key}",
                f"  Redis          {self.redis_url}",
                f"  Data           {self.data_dir}",
                "",
                _heading("Upload a file; the same again resumes it"),
                "",
                # In the environment, where other users of the machine do not see the token.
                f"  GW_SERVER={self.url} GW_TOKEN={shlex.quote(self.token)} {_program()} upload FILE",
                "",
                _heading("Call the API: make a session with one signed part, list the sessions"),
                "",
                f"  curl -sS -H {bearer} -H 'Content-Type: application/json' \\",
                f"    -d {created} {uploads}",
                f"  curl -sS -H {bearer} {uploads}",
                "",
                _heading("Look into the bucket with the AWS command line"),
                "",
                f"  export AWS_DEFAULT_REGION={shlex.quote(self.region)}",
                f"  export AWS_ACCESS_KEY_ID={shlex.quote(self.access_key_id)}",
                f"  export AWS_SECRET_ACCESS_KEY={shlex.quote(self.secret_access_key)}",
                f"  aws --endpoint-url {self.endpoint} s3 ls s3://{self.bucket} --recursive",
                "",
                _heading("Follow the events that are handed on"),
                "",
                f"  GW_REDIS_URL={shlex.quote(self.redis_url)} GW_S3_BUCKET={self.bucket} \\",
                f"    {_program()} events --follow",
                "",
                "Ctrl-C ends it all; started again here, it has its data and addresses.",
                "",
            )
        )


def _heading(text: str) -> str:
    return typer.style(text, bold=True) if sys.stdout.isatty() else text


def _program() -> str:
    """Name this program the way the reader's shell finds it."""
    if shutil.which("gateway") == sys.argv[0]:
        return "gateway"
    started = Path(sys.argv[0])
    # `python -m gateway` has no name of its own that a shell would know.
    return shlex.quote(sys.argv[0]) if started.name == "gateway" else "gateway"
