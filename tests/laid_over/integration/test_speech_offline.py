"""Tests that offline synthesis is understood by offline recognition; needs the extra `speech-offline`."""

import asyncio
import os
import shutil
import subprocess
import sys
from difflib import SequenceMatcher
from importlib import import_module
from pathlib import Path

import httpx2
import pytest

from app.services.processes.process_pool import open_process_pool
from app.services.speech.audio import SAMPLE_RATE, decode
from app.services.speech.engines import espeak, pocketsphinx
from app.services.speech.registry import open_providers
from app.services.speech.settings import SpeechSettings
from tests.conftest import ROOT, environment
from tests.integration.test_errors import assert_problem
from tests.integration.test_speech import SYNTHESIZE, VOICES, only_sqlite, usage
from tests.integration.test_transcription import TRANSCRIBE
from tests.recordings import tone, wav

pytest.importorskip("espeakng_loader")
pytest.importorskip("pocketsphinx")

SENTENCE = "Please open the door and turn on the light."


def recognisable(said: str, heard: str) -> float:
    """Returns the share of the words that was recognised, from 0 to 1."""
    words, found = (text.lower().strip(".").split() for text in (said, heard))
    return sum(block.size for block in SequenceMatcher(None, words, found).get_matching_blocks()) / len(words)


@only_sqlite
async def test_what_is_read_aloud_is_understood(alice: httpx2.AsyncClient) -> None:
    audio = await alice.post(SYNTHESIZE, json={"text": SENTENCE})
    assert (audio.status_code, audio.headers["content-type"]) == (200, "audio/wav")
    answer = await alice.post(TRANSCRIBE, files={"file": ("a.wav", audio.content)}, data={"language": "en"})
    assert answer.status_code == 200, answer.text
    heard = answer.json()
    assert recognisable(SENTENCE, heard["text"]) > 0.7, heard
    assert (heard["language"], len(heard["segments"])) == ("en", 1)
    assert {row["model"]: row["cost"] for row in await usage(alice)} == {
        "offline:espeak-ng": "0",
        "offline:pocketsphinx": "0",
    }


async def test_a_text_sounds_the_same_from_every_new_process() -> None:
    said: list[bytes] = []
    for _ in range(2):
        async with open_process_pool(1) as workers:
            said.append(await workers.do(espeak.speak, SENTENCE, "en-us", 1.0))
        await asyncio.sleep(1)  # by default, the library seeds its noise with the current second
    assert said[0] == said[1]


@only_sqlite
async def test_voices_and_what_there_is_none_of(alice: httpx2.AsyncClient) -> None:
    offered = (await alice.get(VOICES)).json()
    assert {"id": "en-us", "name": "English (America)"} in offered["voices"]
    assert len(offered["voices"]) > 100
    assert offered["formats"] == ["wav", "pcm"]
    answer = await alice.post(SYNTHESIZE, json={"text": SENTENCE, "voice": "nobody"})
    assert_problem(answer, 422, "no_such_voice")
    assert_problem(await alice.post(SYNTHESIZE, json={"text": SENTENCE, "format": "mp3"}), 422, "invalid")
    audio = await alice.post(SYNTHESIZE, json={"text": SENTENCE, "format": "pcm"})
    assert audio.headers["content-type"] == f"audio/pcm;rate={espeak.sample_rate()}"
    files = {"file": ("a.wav", (await alice.post(SYNTHESIZE, json={"text": SENTENCE})).content)}
    answer = await alice.post(TRANSCRIBE, files=files, data={"language": "de"})
    assert_problem(answer, 422, "invalid")
    assert answer.json()["detail"] == "This service understands English only."


def test_voices_differ_and_speed_is_speed() -> None:
    slow, fast, german = (
        espeak.speak(SENTENCE, voice, speed) for voice, speed in (("en-us", 1), ("en-us", 2), ("de", 1))
    )
    assert len(fast) < 0.7 * len(slow)
    assert german != slow


async def test_nobody_waits_to_be_read_to_until_others_are_heard(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    async with open_providers(SpeechSettings(speech_processes=1)) as voices:
        busy = asyncio.create_task(voices.workers.do(Path.read_bytes, fifo))
        try:
            async with asyncio.timeout(30):
                assert await voices.tts.get().voices()
            assert not busy.done()
        finally:
            await asyncio.to_thread(fifo.write_bytes, b"heard")
        assert await busy == b"heard"


def test_a_project_may_lie_deep(tmp_path: Path) -> None:
    """Reads its data although the library cuts long paths, of which the one from the working directory counts."""
    [folder] = import_module("espeakng_loader").__path__
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)
    shutil.copytree(folder, deep / "espeakng_loader")
    inside, outside = (count_voices(folder, with_library=deep) for folder in (deep, ROOT))
    assert int(inside.stdout) > 100
    assert "espeak-ng cannot read its data in" in outside.stderr
    assert "install the project at a shorter path" in outside.stderr


def count_voices(folder: Path, with_library: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from app.services.speech.engines.espeak import voices; print(len(voices()))"]
    env = environment(PYTHONPATH=f"{with_library}:{ROOT}")
    return subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_long_audio_is_heard_in_parts_that_are_cut_in_a_pause(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(tone(18) + bytes(SAMPLE_RATE) + tone(10)))
    decode(tmp_path / "long.wav", "wav", samples := tmp_path / "samples")
    window = pocketsphinx._window(samples, 0)
    assert 18 * SAMPLE_RATE < pocketsphinx._quietest(window) < 18.6 * SAMPLE_RATE
