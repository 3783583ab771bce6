"""Frames of opaque bytes in an append-only file: packed, read back, and never mistaken for anything else.

A frame is a 16-byte header, a key and a payload. Its CRC covers all three, so that a flipped bit anywhere is noticed. A reader that
meets bytes which are no frame goes on at the next one whose CRC holds.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"\xffLSS"
"""No UTF-8 text holds this byte, so no payload of ours can look like the start of a frame."""

VERSION: Final = 1
MAX_PAYLOAD: Final = 16 << 20
_HEAD: Final = struct.Struct("<4sBxHI")  # magic, version, a zero, key length, payload length; the CRC follows
_WHOLE: Final = struct.Struct("<4sBxHII")  # the same with the CRC
_CRC: Final = struct.Struct("<I")
_HEADER: Final = _HEAD.size + _CRC.size
_CHUNK: Final = 256 << 10  # one read serves many frames: each system call of the writer may wait for the GIL

_GIL_KEPT: Final = 5 << 10  # bytes: above this zlib lets go of the GIL, and to get it back may take milliseconds


class Frame(NamedTuple):
    """One frame as it was packed; ``end`` is the offset in the file where it stops."""

    key: bytes
    payload: bytes
    end: int


class Damage(NamedTuple):
    """Bytes from ``start`` to ``end`` that are no frame.

    *torn*: a frame whose writer died over it; *future*: the file of a newer version of this package; else *corrupt*.
    """

    start: int
    end: int
    kind: str


def pack(key: bytes, payload: bytes) -> bytes:
    """Return the frame of *payload*, which may have at most `MAX_PAYLOAD` bytes, and *key*, at most 65,535."""
    head = _HEAD.pack(MAGIC, VERSION, len(key), len(payload))
    return b"".join((head, _CRC.pack(_checksum(head + key, payload)), key, payload))


def scan(descriptor: int, start: int, end: int) -> Iterator[Frame | Damage]:
    """Yield what stands between the offsets *start* and *end* of a file, holding one chunk or one frame in memory."""
    while start < end:
        wanted = _CHUNK
        data = os.pread(descriptor, min(wanted, end - start), start)
        used = 0
        while frame := _parse(data, used, start):
            used = frame.end - start
            yield frame
        start += used
        if used or start >= end:
            continue
        wanted = _length(data)
        if len(data) < wanted <= end - start and (frame := _parse(os.pread(descriptor, wanted, start), 0, start)):
            yield frame
            start = frame.end
            continue
        damage = _damage(os.pread(descriptor, end - start, start), start, end)
        yield damage
        start = damage.end


def _parse(data: bytes, at: int, base: int) -> Frame | None:
    """Return the frame that is whole at *at*, whose file offset is *base* + *at*."""
    body = at + _HEADER
    if body > len(data):
        return None
    magic, version, key_length, payload_length, checksum = _WHOLE.unpack_from(data, at)
    cut = body + key_length
    end = cut + payload_length
    if magic != MAGIC or version != VERSION or payload_length > MAX_PAYLOAD or end > len(data):
        return None
    key, payload = data[body:cut], data[cut:end]
    if checksum != _checksum(data[at : at + _HEAD.size] + key, payload):
        return None
    return Frame(key, payload, base + end)


def _length(data: bytes, at: int = 0) -> int:
    """Return the length that the header at *at* declares, 0 if it is none of this version's."""
    if len(data) - at < _HEADER:
        return 0
    magic, version, key_length, payload_length = _HEAD.unpack_from(data, at)
    if magic != MAGIC or version != VERSION or payload_length > MAX_PAYLOAD:
        return 0
    return int(_HEADER + key_length + payload_length)


def _damage(data: bytes, start: int, end: int) -> Damage:
    """Return the bytes to skip at the beginning of *data*, the rest of the file from *start*."""
    at = data.find(MAGIC, 1)
    while at >= 0:
        if _parse(data, at, start):
            return Damage(start, start + at, "corrupt")
        at = data.find(MAGIC, at + 1)
    if start == 0 and data.startswith(MAGIC) and len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        return Damage(start, end, "future")
    return Damage(start, end, "torn" if _is_torn(data) else "corrupt")


def _is_torn(data: bytes) -> bool:
    if not data.strip(b"\0"):
        return True
    if len(data) < _HEADER:
        return MAGIC.startswith(data[: len(MAGIC)])
    return _length(data) > len(data)


def _checksum(head_and_key: bytes, payload: bytes) -> int:
    crc = zlib.crc32(head_and_key)
    if len(payload) <= _GIL_KEPT:
        return zlib.crc32(payload, crc)
    view = memoryview(payload)
    for at in range(0, len(payload), _GIL_KEPT):
        crc = zlib.crc32(view[at : at + _GIL_KEPT], crc)
    return crc
