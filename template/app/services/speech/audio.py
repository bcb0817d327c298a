"""Inspects and decodes uploaded audio, however the file is named. These functions run in processes of their own."""

from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import AppError

SAMPLE_RATE = 16_000
"""Sets the samples a second to which audio is decoded for inspection and transcription: 16 bits, one channel."""
SILENCE = 100
"""Limits how loud a sample of silence is, of 32,767."""
HIGHEST_RATE = 768_000
"""Limits the sample rate of a file. No recorder has more, and resampling a thousand times ours takes minutes."""
TOLERANCE = 0.5
"""Sets how many seconds more than there are a header may promise."""
HEAD = 16
UNKNOWN_BYTES = 0x7FFF_0000
"""Marks from where on a size in a WAV header only means that the size was unknown."""

_BEGINNINGS: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    "wav": ("wav", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE"),
    "flac": ("flac", lambda head: head[:4] == b"fLaC"),
    "ogg": ("ogg", lambda head: head[:4] == b"OggS"),
    "webm": ("matroska", lambda head: head[:4] == b"\x1aE\xdf\xa3"),
    "m4a": ("mov", lambda head: head[4:8] == b"ftyp"),
    "mp3": ("mp3", lambda head: head[:3] == b"ID3" or (head[0] == 0xFF and head[1] & 0xE6 == 0xE2)),
}
"""Maps each format to its name in FFmpeg and to a check of the first bytes of a file."""


_OPTIONS = {"protocol_whitelist": "file"}


class BadAudio(AppError):
    status, code = 422, "bad_audio"


class AudioTooLong(BadAudio):
    code = "audio_too_long"


class NoSpeechFound(BadAudio):
    code = "nothing_said"


@dataclass(frozen=True, slots=True)
class Audio:
    format: str
    """Names the format: one of wav, mp3, m4a, webm, ogg and flac."""
    seconds: float


def inspect(path: Path, max_seconds: float) -> Audio:
    """Decodes the whole file to check that it is sound, audible and not longer than allowed. Raises BadAudio."""
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
        raise BadAudio("The audio ends too early: the file is not complete.")
    if not samples or peak <= SILENCE:
        raise NoSpeechFound("Nothing can be heard in this audio.")
    return Audio(format, seconds)


def decode(path: Path, format: str, into: Path) -> None:
    """Writes the samples of a file to another, at SAMPLE_RATE."""
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
    raise BadAudio(f"Unsupported audio format; use one of {', '.join(sorted(_BEGINNINGS))}.")


def _open(path: Path, **options: Any) -> Any:
    """Opens a file even if its title is not UTF-8, which PyAV does by itself from version 19 on."""
    import av

    open_container: Any = av.open
    tolerant = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    return open_container(path, **options, **tolerant)


@contextmanager
def _opened(path: Path, format: str) -> Generator[Any]:
    """Opens the file as this format only: FFmpeg knows formats that refer to other files, which it would open."""
    from av.error import FFmpegError

    demuxer = _BEGINNINGS[format][0]
    try:
        with _open(path, format=demuxer, options=_OPTIONS) as container:
            if not container.streams.audio:
                raise BadAudio("There is no audio in this file.")
            codec = container.streams.audio[0].codec_context  # None if FFmpeg has no decoder for it
            if codec and codec.sample_rate > HIGHEST_RATE:
                raise BadAudio(f"The audio has more than {HIGHEST_RATE} samples a second.")
            yield container
    except (FFmpegError, ValueError):  # ValueError: PyAV rejects a value of a header
        raise BadAudio(f"The {format} file is damaged or not complete.") from None


def _decoded(container: Any) -> "Iterator[array[int]]":
    from av import AudioResampler

    resampler = AudioResampler("s16", "mono", SAMPLE_RATE)
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            yield array("h", bytes(part.planes[0])[: part.samples * 2])


def _promised(container: Any, path: Path, format: str) -> float:
    """Returns the duration in seconds that the file states; 0 if FFmpeg would only guess it."""
    if format == "mp3" and not _counts_frames(path):
        return 0
    return (container.duration or 0) / 1_000_000


def _lacks_bytes(path: Path) -> bool:
    """Returns whether a WAV file states a larger size than it has; one that was streamed states none, and passes."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
    return size < UNKNOWN_BYTES and path.stat().st_size < size + 8


def _counts_frames(path: Path) -> bool:
    """Returns whether the first frame of an mp3, behind its tags, states the number of frames."""
    with path.open("rb") as file:
        head = file.read(10)
        tags = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(10 + tags if head[:3] == b"ID3" else 0)
        frame = file.read(256)
    return b"Xing" in frame or b"Info" in frame
