"""Speaks offline with espeak-ng, a library for one call at a time. These functions run in processes of their own."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from app.services.speech.tts import Voice

WORDS_PER_MINUTE = 150
TIMBRE = "+f2"
"""Selects the library's voice variant that is understood best."""
SEED = 1
"""Seeds the noise in consonants. By default the time of the start does, and now and then no word is understood."""
_RETRIEVE, _UTF8, _DONT_EXIT = 1, 1, 0x8000
_RATE = 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),  # a byte of priority before each
        ("identifier", ctypes.c_char_p),
        ("about", ctypes.c_ubyte * 4),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


def sample_rate() -> int:
    return _library()[1]


def voices() -> Sequence[Voice]:
    library, _ = _library()
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    found: dict[str, Voice] = {}
    for pointer in library.espeak_ListVoices(None):
        if not pointer:
            break
        language = pointer.contents.languages[1:].decode()
        found[language] = Voice(language, pointer.contents.name.decode())
    return sorted(found.values(), key=lambda voice: voice.id)


def speak(text: str, voice: str, speed: float) -> bytes:
    """Returns samples of 16 bits, one channel."""
    library, _ = _library()
    chunks: list[bytes] = []

    @_Callback
    def hear(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count:
            chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    library.espeak_SetSynthCallback(hear)
    library.espeak_SetVoiceByName(f"{voice}{TIMBRE}".encode())
    library.espeak_SetParameter(_RATE, round(WORDS_PER_MINUTE * speed), 0)
    spoken = text.replace("\0", "").encode()
    library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, _UTF8, None, None)
    return b"".join(chunks)


@cache
def _library() -> tuple[Any, int]:
    """Loads the library, once for each process. Returns it and its sample rate."""
    loader = import_module("espeakng_loader")
    library = ctypes.CDLL(loader.get_library_path())
    # The library truncates a path of more than some 140 characters.
    whole: str = loader.get_data_path()
    data = min(whole, os.path.relpath(whole), key=len)
    rate: int = library.espeak_Initialize(_RETRIEVE + 1, 0, data.encode(), _DONT_EXIT)
    if rate <= 0:
        raise OSError(f"espeak-ng cannot read its data in {data}; install the project at a shorter path.")
    library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
    return library, rate
