"""Transcribes English offline with pocketsphinx. These functions run in processes of their own."""

from array import array
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from app.services.speech.audio import SAMPLE_RATE

WINDOW_SECONDS = 20
"""Limits how much audio is transcribed at a time."""
SEARCHED_SECONDS = 5
"""Sets how much of the end of a window is searched for the quietest place to cut."""
_FRAME = SAMPLE_RATE // 10
_PAUSE = bytes(SAMPLE_RATE // 2)
"""Surrounds each window with a quarter of a second of silence: the library recognises words by their context."""


def hear(samples: Path, start: int) -> tuple[str, int]:
    """Transcribes from this sample on. Returns the text and the sample to go on with, which is `start` at the end."""
    window = _window(samples, start)
    end = start + len(window)
    if len(window) == WINDOW_SECONDS * SAMPLE_RATE:
        end = start + _quietest(window)
    speech = window[: end - start].tobytes()
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(_PAUSE + speech + _PAUSE, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return (found.hypstr if found else ""), end


def _window(samples: Path, start: int) -> "array[int]":
    with samples.open("rb") as file:
        file.seek(start * 2)
        return array("h", file.read(WINDOW_SECONDS * SAMPLE_RATE * 2))


def _quietest(window: "array[int]") -> int:
    """Returns the sample in the middle of the quietest tenth of a second near the window's end."""
    frames = range(len(window) - SEARCHED_SECONDS * SAMPLE_RATE, len(window) - _FRAME + 1, _FRAME)
    quietest = min(frames, key=lambda frame: sum(map(abs, window[frame : frame + _FRAME])))
    return quietest + _FRAME // 2


@cache
def _decoder() -> Any:
    """Loads the model, once for each process since it takes time. A little noise (dither) helps with clean audio."""
    return import_module("pocketsphinx").Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", dither=True, seed=1)
