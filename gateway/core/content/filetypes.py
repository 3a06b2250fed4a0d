"""The file types that the gateway knows: their names' endings, media types and first bytes.

One table. A type that is not in it is no error: there is then nothing that its first bytes could
be compared with. Media types are IANA's where it has them
(https://www.iana.org/assignments/media-types/), else those that are in use; `aliases` are what
browsers and systems call such files as well, and may call others.

No library does this: `filetype` and `puremagic` guess one type out of all, where the question here
is whether bytes fit the type that a name claims (a .docx is a zip too), and know neither MRC nor
half of these.

The module is longer than others: it is one table.
"""

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core.content import signatures as s
from gateway.core.content.mrc import HEADER_BYTES, mrc_flaw
from gateway.core.content.signatures import Check, begins, contains, either, matroska, riff


@dataclass(frozen=True, slots=True)
class FileType:
    """A kind of file. `flaw` says what is wrong with the first bytes of one, or None.

    `first_bytes` is how many of them it wants to see; fewer only where the file has no more.
    `extensions` have no dot. `telling` means that hardly any other file begins so.
    """

    name: str
    extensions: tuple[str, ...]
    media_types: tuple[str, ...]
    flaw: Check
    first_bytes: int = 64
    aliases: tuple[str, ...] = ()
    telling: bool = True
    compresses: bool = False

    @property
    def declared_as(self) -> frozenset[str]:
        """Every media type that such a file may be declared to have."""
        return frozenset((*self.media_types, *self.aliases))


def _t(
    name: str,
    extensions: str,
    media_types: str,
    flaw: Check,
    first_bytes: int = 64,
    *,
    aliases: str = "",
    telling: bool = True,
    compresses: bool = False,
) -> FileType:
    return FileType(
        name,
        tuple(extensions.split()),
        tuple(media_types.split()),
        flaw,
        first_bytes,
        tuple(aliases.split()),
        telling,
        compresses,
    )


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_ODF: Final = "application/vnd.oasis.opendocument"
_ZIP: Final = begins(b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE: Final = begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
# BigTIFF as well (byte 2 is 43).
_TIFF: Final = begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

FILE_TYPES: Final[tuple[FileType, ...]] = (
    # Microscopy and science.
    _t(
        "MRC2014 map",
        "mrc mrcs ccp4",
        "image/x-mrc application/x-mrc",
        mrc_flaw,
        HEADER_BYTES,
        # Library records (MARC) have the same ending, and systems take it for theirs.
        aliases="application/marc",
    ),
    _t("DigitalMicrograph image", "dm3 dm4", "image/x-dm4", s.digital_micrograph, telling=False),
    _t("EER movie", "eer", "image/x-eer", _TIFF, aliases="image/tiff", telling=False),
    _t("CZI image", "czi", "image/x-czi", begins(b"ZISRAWFILE")),
    _t("DICOM file", "dcm dicom", "application/dicom", begins(b"DICM", at=128), 132),
    _t("NIfTI image", "nii", "image/nii application/x-nifti", s.nifti, 352),
    _t("FITS file", "fits fit fts", "image/fits application/fits", begins(b"SIMPLE  =")),
    _t(
        "HDF5 file",
        "h5 hdf5 he5 h5ad h5ads emd nxs",
        "application/x-hdf5 application/vnd.hdfgroup.hdf5",
        s.hdf5,
        2056,
        aliases="application/x-hdf",
    ),
    _t(
        "netCDF file",
        "nc nc4 cdf",
        "application/netcdf application/x-netcdf",
        either(begins(b"CDF\x01", b"CDF\x02", b"CDF\x05"), s.hdf5),
        2056,
        telling=False,
    ),
    _t(
        "MATLAB file",
        "mat",
        "application/x-matlab-data",
        begins(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"),
    ),
    _t("NumPy array", "npy", "application/x-npy", begins(b"\x93NUMPY")),
    _t(
        "Parquet file",
        "parquet",
        "application/vnd.apache.parquet application/x-parquet",
        begins(b"PAR1", b"PARE"),
    ),
    _t("Avro file", "avro", "application/vnd.apache.avro application/avro", begins(b"Obj\x01")),
    _t("ORC file", "orc", "application/vnd.apache.orc", begins(b"ORC"), telling=False),
    _t(
        "Arrow file",
        "arrow feather",
        "application/vnd.apache.arrow.file",
        begins(b"ARROW1", b"FEA1"),
    ),
    _t(
        "SQLite database",
        "sqlite sqlite3 db3 gpkg",
        "application/vnd.sqlite3 application/x-sqlite3 application/geopackage+sqlite3",
        begins(b"SQLite format 3\0"),
    ),
    _t("LAS point cloud", "las laz", "application/vnd.las application/vnd.laszip", begins(b"LASF")),
    # Documents.
    _t(
        "PDF document",
        "pdf",
        "application/pdf",
        # Readers look for it in the first 1,024 bytes (Adobe's notes to PDF 1.7, 3.4.1).
        contains(b"%PDF-", within=1024),
        1028,
        aliases="application/x-pdf",
    ),
    _t(
        "PostScript file",
        "ps eps ai",
        "application/postscript",
        begins(b"%!PS", b"\xc5\xd0\xd3\xc6"),
    ),
    _t("RTF document", "rtf", "application/rtf text/rtf", begins(b"{\\rtf")),
    _t("Word document", "doc dot", "application/msword", _OLE, telling=False),
    _t("Excel workbook", "xls xlt", "application/vnd.ms-excel", _OLE, telling=False),
    _t("PowerPoint presentation", "ppt pps", "application/vnd.ms-powerpoint", _OLE, telling=False),
    _t(
        "Word document",
        "docx",
        f"{_OFFICE}.wordprocessingml.document",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t(
        "Excel workbook",
        "xlsx",
        f"{_OFFICE}.spreadsheetml.sheet",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t(
        "PowerPoint presentation",
        "pptx",
        f"{_OFFICE}.presentationml.presentation",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t("OpenDocument text", "odt", f"{_ODF}.text", _ZIP, aliases="application/zip", telling=False),
    _t(
        "OpenDocument sheet",
        "ods",
        f"{_ODF}.spreadsheet",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t(
        "OpenDocument presentation",
        "odp",
        f"{_ODF}.presentation",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t("EPUB book", "epub", "application/epub+zip", _ZIP, aliases="application/zip", telling=False),
    _t("text", "txt log star", "text/plain", s.text, 512, telling=False),
    # Where Excel is installed, Windows calls these after it.
    _t(
        "CSV table",
        "csv",
        "text/csv",
        s.text,
        512,
        aliases="text/plain application/csv application/vnd.ms-excel",
        telling=False,
    ),
    _t(
        "TSV table",
        "tsv",
        "text/tab-separated-values",
        s.text,
        512,
        aliases="text/plain",
        telling=False,
    ),
    _t("JSON text", "json", "application/json", s.text, 512, aliases="text/plain", telling=False),
    _t(
        "XML text",
        "xml",
        "application/xml text/xml",
        s.text,
        512,
        aliases="text/plain",
        telling=False,
    ),
    _t("HTML page", "html htm", "text/html", s.text, 512, telling=False),
    _t("Markdown text", "md", "text/markdown", s.text, 512, aliases="text/plain", telling=False),
    # Pictures.
    _t("PNG image", "png", "image/png", begins(b"\x89PNG\r\n\x1a\n"), aliases="image/apng"),
    _t(
        "JPEG image",
        "jpg jpeg jpe",
        "image/jpeg",
        begins(b"\xff\xd8\xff"),
        aliases="image/jpg image/pjpeg",
    ),
    _t("GIF image", "gif", "image/gif", begins(b"GIF87a", b"GIF89a")),
    _t("WebP image", "webp", "image/webp", riff(b"WEBP")),
    _t("TIFF image", "tif tiff gtiff", "image/tiff", _TIFF, aliases="image/tif"),
    _t("AVIF image", "avif", "image/avif", s.avif, 256),
    _t("HEIF image", "heic heif", "image/heic image/heif", s.heif, 256),
    _t("BMP image", "bmp dib", "image/bmp", begins(b"BM"), aliases="image/x-ms-bmp", telling=False),
    _t(
        "JPEG 2000 image",
        "jp2 j2k jpx jpf",
        "image/jp2 image/jpx",
        begins(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ),
    _t(
        "Photoshop image",
        "psd psb",
        "image/vnd.adobe.photoshop",
        begins(b"8BPS"),
        aliases="image/x-photoshop",
    ),
    _t("OpenEXR image", "exr", "image/x-exr image/aces", begins(b"v/1\x01")),
    _t("SVG drawing", "svg", "image/svg+xml", s.text, 512, telling=False),
    # Films and sound.
    _t(
        "MP4 film",
        "mp4 m4v",
        "video/mp4",
        s.film,
        aliases="video/x-m4v video/quicktime application/mp4",
    ),
    _t("QuickTime film", "mov qt", "video/quicktime", s.movie, aliases="video/mp4", telling=False),
    _t(
        "3GPP film",
        "3gp 3g2",
        "video/3gpp video/3gpp2",
        s.film,
        aliases="audio/3gpp video/mp4",
        telling=False,
    ),
    _t("WebM film", "webm", "video/webm audio/webm", matroska(b"webm"), 4096),
    _t(
        "Matroska film",
        "mkv mka mk3d",
        "video/matroska video/x-matroska audio/matroska audio/x-matroska",
        matroska(b"matroska", b"webm"),
        4096,
        aliases="application/x-matroska",
    ),
    _t("AVI film", "avi", "video/x-msvideo video/avi", riff(b"AVI "), aliases="video/msvideo"),
    _t(
        "MPEG film",
        "mpg mpeg vob",
        "video/mpeg",
        begins(b"\0\0\1\xba", b"\0\0\1\xb3"),
        aliases="video/dvd",
    ),
    _t("MPEG transport stream", "m2ts mts", "video/mp2t", s.transport_stream, 400),
    _t(
        "Windows Media file",
        "wmv wma asf",
        "video/x-ms-wmv audio/x-ms-wma video/x-ms-asf",
        begins(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ),
    _t("Flash film", "flv", "video/x-flv", begins(b"FLV\x01")),
    _t("MP3 sound", "mp3", "audio/mpeg", s.mp3, aliases="audio/mp3", telling=False),
    _t("AAC sound", "aac", "audio/aac", s.aac, telling=False),
    _t(
        "MPEG-4 sound",
        "m4a m4b",
        "audio/mp4",
        s.film,
        aliases="audio/x-m4a audio/m4a video/mp4",
        telling=False,
    ),
    _t(
        "WAV sound",
        "wav wave",
        "audio/wav audio/x-wav audio/vnd.wave",
        riff(b"WAVE", container=(b"RIFF", b"RIFX", b"RF64", b"BW64")),
        aliases="audio/wave",
    ),
    # Tags of MP3 before it are against the specification, and common.
    _t(
        "FLAC sound",
        "flac",
        "audio/flac",
        begins(b"fLaC", b"ID3"),
        aliases="audio/x-flac",
        telling=False,
    ),
    _t(
        "Ogg file",
        "ogg oga ogv ogx opus spx",
        "audio/ogg video/ogg application/ogg",
        begins(b"OggS\0"),
        aliases="audio/opus",
    ),
    _t(
        "AIFF sound",
        "aif aiff aifc",
        "audio/aiff audio/x-aiff",
        riff(b"AIFF", b"AIFC", container=(b"FORM",)),
    ),
    _t("MIDI file", "mid midi", "audio/midi audio/x-midi", begins(b"MThd")),
    # Archives and disks.
    _t(
        "ZIP archive",
        "zip",
        "application/zip",
        _ZIP,
        aliases="application/x-zip-compressed application/x-zip",
    ),
    _t(
        "Java archive",
        "jar war",
        "application/java-archive",
        _ZIP,
        aliases="application/zip",
        telling=False,
    ),
    _t("NumPy archive", "npz", "application/x-npz", _ZIP, aliases="application/zip", telling=False),
    _t(
        "gzip file",
        "gz tgz",
        "application/gzip",
        begins(b"\x1f\x8b\x08"),
        aliases="application/x-gzip application/x-tar application/x-compressed-tar "
        "application/x-gtar-compressed application/x-compressed",
        compresses=True,
    ),
    _t(
        "bzip2 file",
        "bz2 tbz2",
        "application/x-bzip2",
        # A block, or at once the end of nothing (both digits of pi and of its root).
        s.either(
            *(
                begins(b"BZh%d" % n + next_)
                for n in range(1, 10)
                for next_ in (b"1AY&SY", b"\x17rE8P\x90")
            )
        ),
        aliases="application/x-bzip application/x-tar application/x-bzip-compressed-tar "
        "application/x-bzip2-compressed-tar",
        compresses=True,
    ),
    _t(
        "xz file",
        "xz txz",
        "application/x-xz",
        begins(b"\xfd7zXZ\0"),
        aliases="application/x-tar application/x-xz-compressed-tar",
        compresses=True,
    ),
    _t(
        "Zstandard file",
        "zst tzst",
        "application/zstd",
        # RFC 8878: a frame, or a skippable one before it.
        begins(b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))),
        aliases="application/x-zstd application/x-tar application/x-zstd-compressed-tar",
        compresses=True,
    ),
    _t("LZ4 file", "lz4", "application/x-lz4", begins(b"\x04\x22\x4d\x18"), compresses=True),
    _t("7-Zip archive", "7z", "application/x-7z-compressed", begins(b"7z\xbc\xaf\x27\x1c")),
    _t(
        "RAR archive",
        "rar",
        "application/vnd.rar",
        begins(b"Rar!\x1a\x07"),
        aliases="application/x-rar-compressed application/x-rar",
    ),
    _t("tar archive", "tar", "application/x-tar", s.tar, 512, telling=False),
    _t(
        "ISO image",
        "iso",
        "application/vnd.efi.iso application/x-iso9660-image",
        # ECMA-119, section 8.4: the first descriptor, in sector 16; BEA01 where it is UDF alone.
        begins(b"CD001", b"BEA01", at=32769),
        32774,
        aliases="application/x-cd-image",
    ),
    _t("QCOW2 disk", "qcow2", "application/x-qemu-disk", begins(b"QFI\xfb")),
    _t(
        "VMDK disk",
        "vmdk",
        "application/x-vmdk",
        begins(b"KDMV", b"# Disk DescriptorFile"),
        aliases="application/x-vmdk-disk",
    ),
    _t(
        "VHDX disk",
        "vhdx",
        "application/x-vhdx",
        begins(b"vhdxfile"),
        aliases="application/x-vhdx-disk",
    ),
)

BY_EXTENSION: Final[Mapping[str, FileType]] = MappingProxyType(
    {extension: known for known in FILE_TYPES for extension in known.extensions}
)

# Those that come with Python, not those of this machine, so that it is the same everywhere.
_OTHERS: Final = mimetypes.MimeTypes()


def media_types_of(extension: str) -> frozenset[str]:
    """Return the media types that files of this extension have, without aliases; perhaps none."""
    known = BY_EXTENSION.get(extension)
    if known is not None:
        return frozenset(known.media_types)
    found = (_OTHERS.types_map[strict].get(f".{extension}") for strict in (True, False))
    return frozenset(media_type for media_type in found if media_type)


def types_declared(media_type: str) -> tuple[FileType, ...]:
    """Return the types whose files may be declared to have this media type."""
    return tuple(known for known in FILE_TYPES if media_type in known.declared_as)


def recognised(head: bytes, size: int | None) -> FileType | None:
    """Return the type that these first bytes give away, to tell people; None is no judgement."""
    return next((k for k in FILE_TYPES if k.telling and k.flaw(head, size) is None), None)
