"""The XML of the two operations whose documents are large: ListParts and CompleteMultipartUpload.

Call these in a thread: 1,000 parts take milliseconds, 10,000 tens of them. Nothing is resolved,
fetched or expanded, and what is not the document that was expected raises MalformedReply.

Forms: docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html and
.../API_CompleteMultipartUpload.html. Stores differ in namespaces and quotes, so neither counts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lxml import etree

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.model import Part
from gateway.core.plan import MAX_PART_NUMBER
from gateway.errors import InvalidRequest

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# What ETags and checksums are made of; nothing of it is escaped.
_PLAIN = re.compile(r"[0-9A-Za-z+/=-]{1,1024}")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,1024}")
_MAX_SIZE_DIGITS = 18


class MalformedReply(Exception):
    """The document is not what the operation answers with; for use inside this package."""


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of ListParts: the parts in the store's order, and whether there are more."""

    parts: tuple[Part, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Completed:
    """A CompleteMultipartUpload that the store says it did; `etag` is empty where it named none."""

    etag: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An `<Error>` document, whatever the HTTP status beside it was."""

    code: str


def write_complete(parts: Sequence[Part], *, checksum_element: str | None) -> bytes:
    """Return the body of CompleteMultipartUpload; `checksum_element` such as `ChecksumSHA256`.

    Raises ValueError for an ETag or checksum that no store can have given.
    """
    lines = [f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">']
    for part in parts:
        checksum = ""
        if checksum_element and part.checksum:
            checksum = f"<{checksum_element}>{_text(part.checksum)}</{checksum_element}>"
        lines.append(
            f"<Part>{checksum}<ETag>&quot;{_text(part.etag)}&quot;</ETag>"
            f"<PartNumber>{part.number}</PartNumber></Part>"
        )
    lines.append("</CompleteMultipartUpload>")
    return "".join(lines).encode()


def parse_parts(document: bytes) -> PartsPage | Refusal:
    """Read a page of ListParts."""
    root = _root(document)
    if _name(root) == "Error":
        return _refusal(root)
    # moto calls it ListPartsResponse.
    if _name(root) not in {"ListPartsResult", "ListPartsResponse"}:
        raise MalformedReply
    parts = []
    for element in root.iterchildren("{*}Part"):
        # Ten thousand parts have fifty thousand of them, which an etree.QName each would double.
        fields = {_local(child.tag): child.text or "" for child in element}
        number = _integer(fields.get("PartNumber", ""))
        etag = unquote_etag(fields.get("ETag", ""))
        if not 1 <= number <= MAX_PART_NUMBER or not etag:
            raise MalformedReply
        parts.append(Part(number, _integer(fields.get("Size", "")), etag))
    return PartsPage(tuple(parts), (root.findtext("{*}IsTruncated") or "").strip() == "true")


def parse_completed(document: bytes) -> Completed | Refusal:
    """Read the answer to CompleteMultipartUpload, white space before it included."""
    root = _root(document.lstrip())
    if _name(root) == "Error":
        return _refusal(root)
    if _name(root) != "CompleteMultipartUploadResult":
        raise MalformedReply
    fields = {_name(child): child.text or "" for child in root}
    return Completed(
        unquote_etag(fields.get("ETag", "")),
        whole_object_checksums(fields, fields.get("ChecksumType")),
    )


def parse_error_code(document: bytes) -> str:
    """Return the S3 code of an error's body, or nothing where it has none (HEAD, a proxy)."""
    try:
        root = _root(document.lstrip())
    except MalformedReply:
        return ""
    return _refusal(root).code if _name(root) == "Error" else ""


def whole_object_checksums(fields: Mapping[str, str], checksum_type: str | None) -> dict[str, str]:
    """Pick the checksums of a whole object out of `ChecksumCRC32` and the like.

    A composite (`-N` at its end) is a checksum of checksums, and is left out. Stores from before
    the checksum type existed name none, and mark composites by that end alone.
    """
    found: dict[str, str] = {}
    if checksum_type not in {None, "", "FULL_OBJECT"}:
        return found
    for algorithm in ALGORITHMS.values():
        value = fields.get(f"Checksum{algorithm.s3_name}")
        if value:
            try:
                found[algorithm.name] = Checksum(algorithm.name, value).value
            except InvalidRequest:
                continue  # A composite, or nothing that could be compared.
    return found


def unquote_etag(text: str) -> str:
    """Return an ETag without the quotes around it, otherwise verbatim."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _root(document: bytes) -> etree._Element:
    # A parser is not shared between threads, and costs microseconds.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        # Comments and processing instructions have no name, and mean nothing here.
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise MalformedReply from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise MalformedReply
    return root


def _name(element: etree._Element) -> str:
    return _local(element.tag)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _refusal(root: etree._Element) -> Refusal:
    return Refusal((root.findtext("{*}Code") or "").strip())


def _integer(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_SIZE_DIGITS:
        raise MalformedReply
    return int(text)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("ETags and checksums are printable ASCII.")
    return escape(value, quote=True)
