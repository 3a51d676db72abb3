"""The length of an mp3 that does not state it, as encoders that write into a pipe leave it.

libsndfile reads such a file up to an estimate from its size and its first bit rate: of a file with
a variable bit rate that may be a quarter of it. So its frames are counted, and a silent first frame
is put before them that states their number, as encoders that can seek do (the "Xing" tag).
"""

from __future__ import annotations

from dataclasses import dataclass

LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")

# ISO/IEC 11172-3 and 13818-3, layer III: kbit/s by the header's index, from 1.
_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = (44_100, 48_000, 32_000)
_TAG_BYTES = 64  # of the frame that states the length; header, side information and tag need 48


@dataclass(frozen=True)
class _Header:
    """The four bytes before a frame; versions 1, 2 and 2.5 divide the rate by 1, 2 and 4."""

    divisor: int
    bitrate: int
    rate_hz: int
    padding: int
    mono: bool

    @property
    def frame_bytes(self) -> int:
        """Length of the frame with its header."""
        kbits = (_KBITS_1 if self.divisor == 1 else _KBITS_2)[self.bitrate - 1]
        return (144 if self.divisor == 1 else 72) * kbits * 1_000 // self.rate_hz + self.padding


def with_length_tag(data: bytes) -> bytes:
    """Returns an mp3 with a tag that states its length, and any other file as it is."""
    start = _after_id3(data)
    first = _header(data, start)
    if first is None or any(tag in data[start : start + first.frame_bytes] for tag in LENGTH_TAGS):
        return data
    frames, place = 0, start
    while (header := _header(data, place)) is not None:
        if place + header.frame_bytes > len(data):
            break  # the last frame is cut: what is there of it is not decoded
        frames, place = frames + 1, place + header.frame_bytes
    rest = data[place:]
    # What follows the last frame is a piece of one, or a tag with title and artist.
    if frames < 2 or (len(rest) > first.frame_bytes * 4 and rest[:3] not in (b"TAG", b"APE")):
        return data
    return _tag(data[start : start + 4], first, frames) + data[start:place]


def _after_id3(data: bytes) -> int:
    """First byte after a tag with title and artist at the beginning (ID3v2)."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:  # seven bits of each
        size = size << 7 | byte & 0x7F
    return 10 + size


def _header(data: bytes, place: int) -> _Header | None:
    """Reads the header of a layer III frame; None if there is none."""
    if place + 4 > len(data):
        return None
    bits = int.from_bytes(data[place : place + 4], "big")
    version, layer, bitrate, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    divisor = {3: 1, 2: 2, 0: 4}[version]
    return _Header(
        divisor=divisor,
        bitrate=bitrate,
        rate_hz=_RATES_HZ[rate] // divisor,
        padding=bits >> 9 & 1,
        mono=bits >> 6 & 3 == 3,
    )


def _tag(start: bytes, header: _Header, frames: int) -> bytes:
    """A silent frame that says how many frames follow it."""
    sizes = (_Header(header.divisor, n, header.rate_hz, 0, header.mono) for n in range(1, 15))
    roomy = next(size for size in sizes if size.frame_bytes >= _TAG_BYTES)
    # No checksum, this bit rate, no padding; version, rate and channels of the others.
    head = bytes((start[0], start[1] | 1, roomy.bitrate << 4 | start[2] & 0x0C, start[3]))
    side = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}
    silent = bytes(side[min(header.divisor, 2), header.mono])
    tag = head + silent + b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return tag.ljust(roomy.frame_bytes, b"\0")
