"""Makes the audio that tests upload: a tone, in every format."""

import io
import math
import wave
from array import array
from functools import cache

import av

RATE = 16_000
CODECS = {
    "wav": ("wav", "pcm_s16le", RATE),
    "mp3": ("mp3", "libmp3lame", RATE),
    "m4a": ("ipod", "aac", RATE),
    "webm": ("webm", "libopus", 48_000),
    "ogg": ("ogg", "libopus", 48_000),
    "flac": ("flac", "flac", RATE),
}
"""Maps each format to its container, its codec and the sample rate that the codec needs."""


@cache
def recording(format: str, seconds: float = 2, bit_rate: int = 0) -> bytes:
    container, codec, rate = CODECS[format]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out, av.open(io.BytesIO(wav(tone(seconds))), "r") as sound:
        stream = out.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        if bit_rate:
            stream.bit_rate = bit_rate
        for frame in sound.decode(audio=0):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def tone(seconds: float, loudness: int = 8_000) -> bytes:
    """Returns PCM samples, those of one second repeated."""
    second = array("h", (round(loudness * math.sin(n * 440 * math.tau / RATE)) for n in range(RATE))).tobytes()
    whole, rest = divmod(round(seconds * RATE), RATE)
    return second * whole + second[: rest * 2]


def wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples)
    return file.getvalue()
