"""The smallest IAM policy under which the gateway, and its doctor, work.

Which action an operation needs: docs.aws.amazon.com/AmazonS3/latest/userguide/
using-with-s3-policy-actions.html. MinIO and its like read the same form. A bucket that is encrypted
with a key of one's own (SSE-KMS) needs kms:GenerateDataKey and kms:Decrypt on that key beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.storage.s3.trial import PREFIX as PROBED

OWN: Final = ".gateway/"
"""Where the gateway keeps its own things."""
UPLOADS: Final = "uploads/"
"""Where objects go whose key the server makes (`core.creation`)."""

# Without ListBucket, a store answers 403 and not 404 for what is not there, and nobody could tell
# whether an object is missing.
_ON_BUCKET: Final = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
_ON_OBJECTS: Final = (
    "s3:AbortMultipartUpload",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
)
_PARTITIONS: Final = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"))


@dataclass(frozen=True, slots=True)
class Needs:
    """What a gateway is to do in which bucket.

    `any_key`: clients choose keys (and then need more than `uploads/`). `make_bucket`: it makes
    the bucket where it is missing.
    """

    bucket: str
    region: str
    any_key: bool = False
    make_bucket: bool = False

    @property
    def arn(self) -> str:
        """The bucket's name as resources are named."""
        partition = next(
            (name for prefix, name in _PARTITIONS if self.region.startswith(prefix)), "aws"
        )
        return f"arn:{partition}:s3:::{self.bucket}"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where it reads and writes; one that is empty is the whole bucket."""
        return ("",) if self.any_key else (UPLOADS, OWN)


def iam_policy(needs: Needs) -> dict[str, Any]:
    """Return the policy, ready for JSON."""
    return {
        "Version": "2012-10-17",
        "Statement": list(_statements(needs)),
    }


def _statements(needs: Needs) -> Iterator[dict[str, Any]]:
    bucket = needs.arn
    yield _allow("SeeWhatIsThere", _ON_BUCKET, bucket)
    yield _allow(
        "UploadAndReadBack", _ON_OBJECTS, *(f"{bucket}/{prefix}*" for prefix in needs.prefixes)
    )
    # Objects of users are never deleted.
    yield _allow("ClearAwayProbes", ("s3:DeleteObject",), f"{bucket}/{PROBED}*")
    yield _allow("LetTheDoctorCompareLifetimes", ("s3:GetLifecycleConfiguration",), bucket)
    if needs.make_bucket:
        yield _allow("MakeTheBucket", ("s3:CreateBucket", "s3:PutBucketCORS"), bucket)


def _allow(sid: str, actions: tuple[str, ...], *resources: str) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }
