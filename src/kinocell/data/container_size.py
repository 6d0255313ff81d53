"""How many bytes a video file's own structure announces: RIFF (avi), MP4 boxes, EBML (mkv, webm).

No decoder and no frames. A file that announces more than it holds was cut off, whatever decodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

RIFF_SLACK_BYTES = 16
"""Writers of avi files are off by a header or a padding byte; behind the frames lies an index."""

BOXES = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"meta", b"uuid"),
    *(b"sidx", b"ssix", b"mfra", b"emsg", b"prft", b"pdin", b"udta", b"pnot", b"PICT", b"junk"),
}
"""What lies at the top of MP4 and QuickTime files; anything else ends the walk."""

EBML_HEADER, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
RIFF_UNKNOWN = (0, 0xFFFFFFFF)


def announced_bytes(path: Path) -> int | None:
    """The size that the file's structure claims; None where it claims none.

    Recordings that were never closed, streams and all other formats claim none.

    Raises:
        OSError: The file cannot be read.
    """
    return _announced(path)[0]


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks of what it announces; 0 where nothing is known to be missing.

    Raises:
        OSError: The file cannot be read.
    """
    announced, slack = _announced(path)
    missing = (announced or 0) - path.stat().st_size
    return missing if missing > slack else 0


def _announced(path: Path) -> tuple[int | None, int]:
    """The size that is claimed, and by how much such claims are off."""
    with path.open("rb") as file:
        start = file.read(8)
        if start[:4] == b"RIFF":
            return _riff_end(file), RIFF_SLACK_BYTES
        if start[:4] == EBML_HEADER:
            return _ebml_end(file), 0
        if start[4:] in BOXES:
            return _boxes_end(file), 0
    return None, 0


def _riff_end(file: BinaryIO) -> int | None:
    """Long avi files are several RIFF chunks, one after the other."""
    end = 0
    while True:
        file.seek(end)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            return end
        size = int.from_bytes(header[4:], "little")
        if size in RIFF_UNKNOWN:
            return None
        end += 8 + size + size % 2


def _boxes_end(file: BinaryIO) -> int | None:
    end = 0
    while True:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8 or header[4:8] not in BOXES:
            return end
        size = int.from_bytes(header[:4], "big")
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        if size == 0:  # up to the end, wherever that is
            return None
        if size < 8:
            return end
        end += size


def _ebml_end(file: BinaryIO) -> int | None:
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != EBML_SEGMENT:
        return None
    segment = _ebml_size(file)
    return None if segment is None else file.tell() + segment


def _ebml_size(file: BinaryIO) -> int | None:
    """A number whose leading zero bits say how long it is; all ones mean unknown (RFC 8794, 4)."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value
