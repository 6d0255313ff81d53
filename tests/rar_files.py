"""Rar archives of stored files, written byte by byte: no free program writes rar.

After the technical notes that come with unrar (RAR 4) and rarlab.com/technote.htm (RAR 5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

Files = Sequence[tuple[str, bytes]]

LINK_MODE = 0o120777
FILE_MODE = 0o100644


def rar4(files: Files, *, mode: int = FILE_MODE) -> bytes:
    """RAR 4: each file stored, with its CRC."""

    def block(kind: int, flags: int, body: bytes, data: bytes = b"") -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, data in files:
        letters = name.encode()
        body = struct.pack(
            "<IIBIIBBHI",
            *(len(data), len(data), 3, zlib.crc32(data), 0x58210000),
            *(20, 0x30, len(letters), mode),
        )
        parts.append(block(0x74, 0x8000, body + letters, data))
    return b"".join([*parts, block(0x7B, 0x4000, b"")])


def rar5(files: Files) -> bytes:
    """RAR 5: each file stored, with its CRC."""

    def block(kind: int, flags: int, body: bytes, data: bytes = b"") -> bytes:
        size = _number(len(data)) if flags & 2 else b""
        head = _number(kind) + _number(flags) + size + body
        head = _number(len(head)) + head
        return struct.pack("<I", zlib.crc32(head)) + head + data

    parts = [b"Rar!\x1a\x07\x01\x00", block(1, 0, _number(0))]
    for name, data in files:
        letters = name.encode()
        body = _number(4) + _number(len(data)) + _number(FILE_MODE)
        body += struct.pack("<I", zlib.crc32(data)) + _number(0) + _number(1)
        parts.append(block(2, 2, body + _number(len(letters)) + letters, data))
    return b"".join([*parts, block(5, 0, _number(0))])


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    done = b""
    while value > 0x7F:
        done += bytes([value & 0x7F | 0x80])
        value >>= 7
    return done + bytes([value])
