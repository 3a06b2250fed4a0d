"""Which files are taken: by their names, declared types, first bytes and sizes. All rules are here.

Pure: others read the bytes, and decide when to ask. An empty policy takes everything and wants to
see nothing. What it takes is not promised to be harmless, nor whole, nor well-formed behind its
first bytes: a file can begin as a picture and end as something else.

A file is judged by what its name ends in; where that is nothing, by its declared media type.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.core.content.filetypes import (
    BY_EXTENSION,
    FileType,
    media_types_of,
    recognised,
    types_declared,
)
from gateway.core.model import Problem
from gateway.core.plan import PartLimits, PartPlan
from gateway.errors import TooLarge, UnsupportedType

# What programs declare that do not know better (RFC 2046, section 4.5.1; the second is Amazon's).
_ANYTHING: Final = frozenset({"application/octet-stream", "binary/octet-stream"})

_EXTENSION: Final = re.compile(r"(?:\.[a-z0-9_+-]{1,32}){1,3}", re.ASCII)
# RFC 6838, section 4.2.
_NAME: Final = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_MEDIA_RANGE: Final = re.compile(rf"\*/\*|{_NAME}/(?:\*|{_NAME})", re.ASCII)
_MOST_ENTRIES: Final = 200


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """What a gateway takes. `allowed_types` are entries as `.mrc`, `.nii.gz`, `image/png`, `image/*`.

    `image/*` allows all extensions that are known to be pictures'; `*/*` allows every name, but a
    file must still be what its name says. No entries: everything is taken unseen. A file has at
    most `max_file_size` bytes; None leaves that to the store.

    Raises ValueError for entries that are none: they come from a setting.
    """

    allowed_types: Sequence[str] = ()
    max_file_size: int | None = None
    _suffixes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _ranges: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        entries = tuple(dict.fromkeys(entry.lower() for entry in self.allowed_types))
        for entry in entries:
            if not (_EXTENSION.fullmatch(entry) or _MEDIA_RANGE.fullmatch(entry)):
                raise ValueError(
                    f"{entry!r} is neither an extension with its dot, such as .mrc, nor a media "
                    "type, such as image/png or image/*"
                )
        if len(entries) > _MOST_ENTRIES:
            raise ValueError(f"there are more than {_MOST_ENTRIES} entries")
        if self.max_file_size is not None and self.max_file_size < 1:
            raise ValueError("The largest size of a file is positive.")
        object.__setattr__(self, "allowed_types", entries)
        object.__setattr__(self, "_suffixes", tuple(e for e in entries if e.startswith(".")))
        object.__setattr__(self, "_ranges", tuple(e for e in entries if "/" in e))

    # Names and declared types.

    def admit(self, filename: str, content_type: str, size: int | None) -> None:
        """Raise unless a file of this name and declared type may be begun; sizes have a plan.

        Raises UnsupportedType `file_type_not_allowed`, and `content_not_allowed` for an empty file
        of a type that has no empty ones.
        """
        if not self.allowed_types:
            return
        extension, declared = extension_of(filename), _essence(content_type)
        if not self._takes(filename, extension, declared):
            raise self._not_allowed(
                f"Files that end in .{extension} are not taken here."
                if extension
                else "Without an extension in its name, the file's type must be declared."
            )
        if extension and not self._may_declare(filename, extension, declared):
            raise self._not_allowed(
                f"The content_type {declared} is not taken for .{extension} files here.",
                " Leave content_type out, or send application/octet-stream, where it has no other.",
            )
        if size == 0:
            self.check_first_bytes(filename, content_type, b"", size=0)

    def _takes(self, filename: str, extension: str, declared: str) -> bool:
        if "*/*" in self._ranges:
            return True
        if not extension:
            return declared not in _ANYTHING and self._lists(declared)
        name = filename.lower()
        return any(
            name.endswith(suffix) and len(name) > len(suffix) for suffix in self._suffixes
        ) or any(self._lists(media_type) for media_type in media_types_of(extension))

    def _may_declare(self, filename: str, extension: str, declared: str) -> bool:
        if declared in _ANYTHING:
            return True
        known = BY_EXTENSION.get(extension)
        types = media_types_of(extension) | (known.declared_as if known else frozenset())
        if known is not None and known.compresses:
            # Python, for one, declares a .csv.gz as what is in it.
            inner = extension_of(filename.lower().removesuffix(f".{extension}"))
            packed = BY_EXTENSION.get(inner)
            types |= media_types_of(inner) | (packed.declared_as if packed else frozenset())
        if declared in types:
            return True
        # Allowed by itself it is still a contradiction where it is known to be another type's.
        return self._lists(declared) and not (types and types_declared(declared))

    def _lists(self, media_type: str) -> bool:
        main = media_type.partition("/")[0]
        return any(entry in self._ranges for entry in (media_type, f"{main}/*", "*/*"))

    def _not_allowed(self, message: str, more: str = "") -> UnsupportedType:
        return UnsupportedType(
            message,
            code="file_type_not_allowed",
            hint=f"Allowed are {', '.join(self.allowed_types)}.{more}",
            details={"allowed_types": list(self.allowed_types)},
        )

    # First bytes.

    def first_bytes(self, filename: str, content_type: str) -> int:
        """Return how many bytes of the file's beginning it takes to judge it; 0: none are asked."""
        known = self._claimed(filename, content_type)
        return known.first_bytes if known else 0

    def check_first_bytes(
        self, filename: str, content_type: str, head: bytes, *, size: int | None
    ) -> int:
        """Judge a file by the bytes of its beginning that have come so far, as doors do.

        Returns 0 when they are enough and right, else how many it takes. `size` is that of the
        whole file, where it is known: a short file is judged by all that it has. Raises
        UnsupportedType `content_not_allowed`.
        """
        needed = self.first_bytes(filename, content_type)
        if len(head) < (needed if size is None else min(needed, size)):
            return needed
        problem = self.judge(filename, content_type, head, size=size)
        if problem is not None:
            raise UnsupportedType(problem.message, code="content_not_allowed", hint=problem.hint)
        return 0

    def judge(
        self, filename: str, content_type: str, head: bytes, *, size: int | None
    ) -> Problem | None:
        """Return what is wrong with a file that begins so, or None; never raises.

        `head` has as many bytes as `first_bytes` says, or else is all of the file.
        """
        known = self._claimed(filename, content_type)
        flaw = known.flaw(head, size) if known else None
        if known is None or flaw is None:
            return None
        found = recognised(head, size)
        said = "name" if extension_of(filename) else "declared type"
        return Problem(
            "content_not_allowed",
            f"The content does not fit the {said} ({known.name}): "
            f"{flaw if head else 'the file is empty'}.",
            (f"It begins like another type: {found.name}. " if found else "")
            + "Send the right file, or name it after what it is.",
        )

    def _claimed(self, filename: str, content_type: str) -> FileType | None:
        if not self.allowed_types:
            return None
        extension = extension_of(filename)
        if extension:
            return BY_EXTENSION.get(extension)
        return next(iter(types_declared(_essence(content_type))), None)

    # Sizes.

    def within(self, limits: PartLimits) -> PartLimits:
        """Return the store's limits, narrowed to files of the size that is taken."""
        if self.max_file_size is None:
            return limits
        return replace(limits, max_object_size=min(limits.max_object_size, self.max_file_size))

    def check_part(self, plan: PartPlan, number: int, length: int | None) -> None:
        """Raise TooLarge `file_too_large` for a part that lies beyond the largest file taken.

        For uploads of unknown size; where it is known, it was looked at already. `length` is None
        where that is not known either: then the part only has to begin within.
        """
        if self.max_file_size is None or plan.size is not None:
            return
        begin = plan.offset(number)
        if begin + (min(begin, 1) if length is None else length) > self.max_file_size:
            raise TooLarge(
                "The file becomes larger than is taken here.",
                code="file_too_large",
                hint=f"At most {self.max_file_size} bytes are taken; a larger upload can only be aborted.",
                details={"max_size": self.max_file_size},
            )

    def full_parts(self, plan: PartPlan) -> int:
        """Return how many full parts an upload of unknown size may have."""
        if self.max_file_size is None or plan.size is not None:
            return plan.last_number
        return min(plan.last_number, self.max_file_size // plan.part_size)

    def judge_size(self, size: int) -> Problem | None:
        """Return what is wrong with an object of this size, or None."""
        if self.max_file_size is None or size <= self.max_file_size:
            return None
        return Problem(
            "file_too_large",
            f"The object has {size} bytes; at most {self.max_file_size} are taken here.",
            "Send a smaller file in a new session.",
        )


TAKES_ALL: Final = ContentPolicy()
"""The policy of a gateway whose settings name none."""


def extension_of(filename: str) -> str:
    """Return what follows the last dot, in small letters; nothing for `name`, `.name` and `name.`."""
    stem, _, extension = filename.lower().rpartition(".")
    return extension if stem else ""


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
