"""What a file is, told by its first bytes and never by its name.

Knows signatures, opens nothing. The surprise: an MP3 has no signature of its own, so a chain of frame headers must fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

HEAD_BYTES = 65_536
"""How much of a file is looked at."""


@dataclass(frozen=True)
class Kind:
    """A type of content.

    Attributes:
        name: What to call it in a message.
        suffixes: Suffixes that such a file may have, lower case; empty for what is not audio.
        reader: Who decodes it first: ``soundfile`` or ``av``; empty for what is not audio.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    reader: str = ""


WAV = Kind("WAV", (".wav", ".wave", ".bwf", ".rf64", ".wac", ".amb"), "soundfile")
FLAC = Kind("FLAC", (".flac", ".fla"), "soundfile")
OGG = Kind("OGG", (".ogg", ".oga", ".opus", ".spx", ".ogx", ".ogv"), "av")
MP3 = Kind("MP3", (".mp3", ".mp2", ".mpga", ".mp1"), "av")
ADTS = Kind("AAC", (".aac", ".adts"), "av")
AIFF = Kind("AIFF", (".aif", ".aiff", ".aifc"), "soundfile")
MP4 = Kind(
    "MP4", (".m4a", ".mp4", ".m4b", ".m4v", ".mov", ".3gp", ".3g2", ".caf", ".aac", ".alac"), "av"
)
MATROSKA = Kind("Matroska", (".mka", ".mkv", ".webm", ".weba"), "av")

_AUDIO: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"RIFX", WAV),
    (0, b"RF64", WAV),
    (0, b"BW64", WAV),
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
    (0, b"\x1aE\xdf\xa3", MATROSKA),
    (4, b"ftyp", MP4),
    (4, b"moov", MP4),
    (4, b"mdat", MP4),
    (0, b"caff", Kind("CAF", (".caf",), "soundfile")),
    (0, b".snd", Kind("AU", (".au", ".snd"), "soundfile")),
    (0, b"riff\x2e\x91\xcf\x11", Kind("Wave64", (".w64",), "soundfile")),
    (0, b"Creative Voice File", Kind("VOC", (".voc",), "soundfile")),
    (0, b"NIST_1A", Kind("NIST Sphere", (".sph", ".nist", ".wav"), "soundfile")),
    (0, b"0&\xb2u\x8ef\xcf\x11", Kind("ASF", (".wma", ".asf", ".wmv"), "av")),
    (0, b"MAC ", Kind("Monkey's Audio", (".ape",), "av")),
    (0, b"wvpk", Kind("WavPack", (".wv",), "av")),
    (0, b"TTA1", Kind("True Audio", (".tta",), "av")),
    (0, b"tBaK", Kind("TAK", (".tak",), "av")),
    (0, b"MPCK", Kind("Musepack", (".mpc",), "av")),
    (0, b"MP+", Kind("Musepack", (".mpc",), "av")),
    (0, b"#!AMR", Kind("AMR", (".amr", ".3ga"), "av")),
    (0, b".RMF", Kind("RealMedia", (".rm", ".ra"), "av")),
    (0, b"FLV\x01", Kind("FLV", (".flv",), "av")),
    (0, b"\x0b\x77", Kind("AC-3", (".ac3", ".eac3"), "av")),
)

_OTHER: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"(\xb5/\xfd", "a zstd archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x80\x04\x95", "a pickle"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\xd0\xcf\x11\xe0", "an Office document"),
    (0, b"MThd", "a MIDI score, which holds no sound"),
)

_SVX = Kind("8SVX", (".svx", ".iff"), "soundfile")
_FORMS = {b"WAVE": WAV, b"AVI ": Kind("AVI", (".avi",), "av"), b"WEBP": Kind("a WebP image")}
_AIFF_FORMS = {b"AIFF": AIFF, b"AIFC": AIFF, b"8SVX": _SVX, b"16SV": _SVX}

_VIDEO = frozenset(
    [
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".iff",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".ogv",
        ".rm",
        ".snd",
        ".webm",
        ".wmv",
    ]
)

KNOWN_SUFFIXES: frozenset[str] = frozenset(
    suffix
    for kind in (WAV, FLAC, OGG, MP3, ADTS, AIFF, MP4, MATROSKA, *(row[2] for row in _AUDIO))
    for suffix in kind.suffixes
)
"""Every suffix that says what a file should hold, lower case."""

SUFFIXES = KNOWN_SUFFIXES - _VIDEO
"""The suffixes that folders are searched for: films are read when they are named, not picked up."""


def sniff_file(file: BinaryIO) -> Kind:
    """Name the content of a file that stands at its start, looking behind an ID3 tag; a tag alone speaks for MP3."""
    head = file.read(HEAD_BYTES)
    tag_bytes = id3_size(head)
    if not tag_bytes:
        return sniff(head)
    file.seek(tag_bytes)
    kind = sniff(file.read(HEAD_BYTES))
    return kind if kind.reader else MP3


def sniff(head: bytes) -> Kind:
    """Name content by its first bytes.

    Args:
        head: Its first ``HEAD_BYTES`` bytes, or all there are.
    """
    if head[:4] == b"RIFF":
        return _FORMS.get(head[8:12], Kind("a RIFF file that is not WAVE"))
    if head[:4] == b"FORM":
        return _AIFF_FORMS.get(head[8:12], Kind("an IFF file that is not AIFF"))
    for offset, magic, kind in _AUDIO:
        if head[offset : offset + len(magic)] == magic:
            return kind
    for offset, magic, name in _OTHER:
        if head[offset : offset + len(magic)] == magic:
            return Kind(name)
    return _frames(head) or Kind(_shapeless(head))


def _shapeless(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    start = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"<" and (b"<html" in start.lower() or b"<!doctype" in start.lower()):
        return "an HTML page"
    if _is_text(head[:4096]):
        return {b"<": "an XML document", b"{": "JSON text", b"[": "JSON text"}.get(
            start[:1], "text"
        )
    return "unknown binary data"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or error.start == 0:
            return False
        text = head[: error.start].decode("utf-8", "replace")
    controls = sum(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text)
    return controls <= len(text) // 100


_MP3_BITRATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True)
class Mp3Frame:
    """The header of one MPEG audio frame.

    Attributes:
        size: Bytes of the frame, header included.
        samples: Samples a channel.
        rate_hz: Sample rate.
        side_bytes: Bytes between the header and the place where a Xing header would stand.
    """

    size: int
    samples: int
    rate_hz: int
    side_bytes: int


def mp3_frame(head: bytes, at: int) -> Mp3Frame | None:
    """Read the header of an MPEG audio frame, if there is one at this place."""
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = head[at + 1] >> 3 & 3, 4 - (head[at + 1] >> 1 & 3)
    bitrate, rate = head[at + 2] >> 4, head[at + 2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    group = 1 if version == 3 else 2
    rate_hz = _MP3_RATES[version][rate]
    bits, padding = _MP3_BITRATES[group, layer][bitrate] * 1000, head[at + 2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and group == 2 else 1152
    size = (
        (12 * bits // rate_hz + padding) * 4
        if layer == 1
        else samples // 8 * bits // rate_hz + padding
    )
    mono = head[at + 3] >> 6 == 3
    side = (17 if mono else 32) if group == 1 else (9 if mono else 17)
    return Mp3Frame(size, samples, rate_hz, side)


def adts_size(head: bytes, at: int) -> int:
    """Return the bytes of the AAC frame at this place; 0 when there is none."""
    if len(head) < at + 7 or head[at] != 0xFF or head[at + 1] & 0xF6 != 0xF0:
        return 0
    size = (head[at + 3] & 3) << 11 | head[at + 4] << 3 | head[at + 5] >> 5
    return size if size > 7 and head[at + 2] >> 2 & 15 < 13 else 0


def id3_size(head: bytes) -> int:
    """Return the bytes of the ID3 tag that stands first; 0 when there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _frames(head: bytes) -> Kind | None:
    """Find a chain of frames."""
    for at in range(min(4096, len(head))):
        if head[at] == 0xFF and (kind := _chain(head, at)):
            return kind
    return None


def _chain(head: bytes, at: int) -> Kind | None:
    for kind in (MP3, ADTS):
        place, count = at, 0
        while count < 4 and place < len(head) - 8:
            frame = mp3_frame(head, place) if kind is MP3 else None
            size = frame.size if frame else adts_size(head, place) if kind is ADTS else 0
            if not size:
                break
            place, count = place + size, count + 1
        if count >= 4 or (count and place >= len(head) - 8 and at == 0):
            return kind
    return None
