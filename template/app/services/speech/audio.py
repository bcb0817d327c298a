"""What an uploaded file really is, however it is named. These functions run in processes of their own."""

from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import AppError

SAMPLE_RATE = 16_000
"""At which audio is looked at and listened to: 16 bits, one channel."""
SILENCE = 100
"""No sample of silence is louder, of 32,767."""
HIGHEST_RATE = 768_000
"""No recorder has more; to come from a thousand times as many to ours takes a processor for minutes."""
TOLERANCE = 0.5
"""Seconds that a header may promise too many."""
HEAD = 16
UNKNOWN_BYTES = 0x7FFF_0000
"""From here on it is no size."""

_BEGINNINGS: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    "wav": ("wav", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE"),
    "flac": ("flac", lambda head: head[:4] == b"fLaC"),
    "ogg": ("ogg", lambda head: head[:4] == b"OggS"),
    "webm": ("matroska", lambda head: head[:4] == b"\x1aE\xdf\xa3"),
    "m4a": ("mov", lambda head: head[4:8] == b"ftyp"),
    "mp3": ("mp3", lambda head: head[:3] == b"ID3" or (head[0] == 0xFF and head[1] & 0xE6 == 0xE2)),
}
"""Of each format, how the library calls it, and how a file of it begins."""


_OPTIONS = {"protocol_whitelist": "file"}


class BadAudio(AppError):
    status, code = 422, "bad_audio"


class AudioTooLong(BadAudio):
    code = "audio_too_long"


class NothingSaid(BadAudio):
    code = "nothing_said"


@dataclass(frozen=True, slots=True)
class Audio:
    format: str
    """One of wav, mp3, m4a, webm, ogg and flac."""
    seconds: float


def inspect(path: Path, max_seconds: float) -> Audio:
    """Decodes the whole file, so that what is passed on is sound, and no longer than it may be. Raises BadAudio."""
    format = _format(path)
    samples, peak = 0, 0
    with _opened(path, format) as container:
        promised = _promised(container, path, format)
        for chunk in _decoded(container):
            samples += len(chunk)
            peak = max(peak, max(chunk, default=0), -min(chunk, default=0))
            if max_seconds and samples > max_seconds * SAMPLE_RATE:
                raise AudioTooLong(f"The audio is longer than {max_seconds:g} seconds.")
    seconds = samples / SAMPLE_RATE
    if seconds < promised * 0.98 - TOLERANCE or (format == "wav" and _lacks_bytes(path)):
        raise BadAudio("The audio ends before its time: the file is not complete.")
    if not samples or peak <= SILENCE:
        raise NothingSaid("Nothing can be heard in this audio.")
    return Audio(format, seconds)


def decode(path: Path, format: str, into: Path) -> None:
    """Writes the samples to a file."""
    with _opened(path, format) as container, into.open("wb") as file:
        for chunk in _decoded(container):
            file.write(chunk.tobytes())


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise BadAudio("The file is empty.")
    for format, (_, begins) in _BEGINNINGS.items():
        if len(head) == HEAD and begins(head):
            return format
    raise BadAudio(f"This is none of {', '.join(sorted(_BEGINNINGS))}, whatever the file is called.")


def _open(path: Path, **options: Any) -> Any:
    """Takes a title that is no UTF-8, too, which PyAV does by itself from version 19 on."""
    import av

    open_container: Any = av.open
    tolerant = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    return open_container(path, **options, **tolerant)


@contextmanager
def _opened(path: Path, format: str) -> Generator[Any]:
    """As this format and no other: some that the library knows name other files, which it would open."""
    from av.error import FFmpegError

    demuxer = _BEGINNINGS[format][0]
    try:
        with _open(path, format=demuxer, options=_OPTIONS) as container:
            if not container.streams.audio:
                raise BadAudio("There is no audio in this file.")
            codec = container.streams.audio[0].codec_context  # None where nobody knows how to decode it
            if codec and codec.sample_rate > HIGHEST_RATE:
                raise BadAudio(f"The audio has more than {HIGHEST_RATE} samples a second.")
            yield container
    except (FFmpegError, ValueError):  # the latter where the library makes no sense of what a header says
        raise BadAudio(f"The {format} file is damaged or not complete.") from None


def _decoded(container: Any) -> "Iterator[array[int]]":
    from av import AudioResampler

    resampler = AudioResampler("s16", "mono", SAMPLE_RATE)
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            yield array("h", bytes(part.planes[0])[: part.samples * 2])


def _promised(container: Any, path: Path, format: str) -> float:
    """How many seconds the file says it has, where it says so; 0 where the library guesses."""
    if format == "mp3" and not _counts_frames(path):
        return 0
    return (container.duration or 0) / 1_000_000


def _lacks_bytes(path: Path) -> bool:
    """Whether a WAV file says that it is larger; those that were written before their end was known say nonsense."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
    return size < UNKNOWN_BYTES and path.stat().st_size < size + 8


def _counts_frames(path: Path) -> bool:
    """Whether the first frame of an mp3, behind its tags, says how many there are."""
    with path.open("rb") as file:
        head = file.read(10)
        tags = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(10 + tags if head[:3] == b"ID3" else 0)
        frame = file.read(256)
    return b"Xing" in frame or b"Info" in frame
