"""Tests each provider's speech synthesis and transcription, against a server that imitates the provider."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SetupError
from app.schemas.speech import AudioFormat
from app.services.speech.audio import Audio
from app.services.speech.errors import SpeechFailure
from app.services.speech.registry import SpeechProviders, open_providers
from app.services.speech.settings import SpeechSettings
from app.services.speech.stt import Transcript
from app.services.speech.tts import NoSuchVoice
from tests.protocols.dialect import KEY, SECRET
from tests.protocols.gateway import everything_logged
from tests.protocols.server import Answer, End, Server, problem, serve
from tests.speech_protocols.case import TEXT, Dialect, Read

FOLDER = Path(__file__).parents[1] / "speech_protocols"
_MODULES = [import_module(f"tests.speech_protocols.{path.stem}") for path in sorted(FOLDER.glob("*.py"))]
DIALECTS = [module.DIALECT for module in _MODULES if hasattr(module, "DIALECT")]
FAILURES = {f"{d.provider}-{name}": (d, *failure) for d in DIALECTS for name, failure in d.failures.items()}
AUDIO = Audio("wav", 2)

every = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.provider)


@asynccontextmanager
async def gateway(
    dialect: Dialect, *, silence: float = 60, key: str = KEY, **more: Any
) -> AsyncGenerator[tuple[SpeechProviders, Server]]:
    provider = dialect.provider
    own = {"tts_provider": provider, "stt_provider": provider, "tts_voice": dialect.voice, **more}
    async with serve() as server:
        with pytest.MonkeyPatch.context() as patch:
            dialect.point_at(server.url, patch)
            patch.setenv(dialect.key_variable, key)
            patch.setenv("STT_MODEL", dialect.stt)
            patch.setenv("SPEECH_TIMEOUT", str(silence))
            async with open_providers(SpeechSettings.model_validate(own)) as voices:
                yield voices, server


async def spoken(voices: SpeechProviders, format: AudioFormat = AudioFormat.mp3, voice: str | None = None) -> bytes:
    tts = voices.tts.get()
    return b"".join([chunk async for chunk in tts.speak(TEXT, voice, format, 1.1)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "audio"
    path.write_bytes(b"RIFF-samples")
    return path


async def heard(voices: SpeechProviders, file: Path, language: str | None = None) -> Transcript:
    return await voices.stt.get().transcribe(file, AUDIO, language)


@every
async def test_audio_comes_as_it_arrives(dialect: Dialect) -> None:
    go_on = asyncio.Event()
    async with gateway(dialect) as (voices, server):
        server.will(Answer([b"one", go_on, b"two"], headers={"content-type": "audio/mpeg"}))
        async with aclosing(voices.tts.get().speak(TEXT, None, AudioFormat.mp3, 1)) as chunks:
            assert await anext(chunks) == b"one"
            go_on.set()
            assert [chunk async for chunk in chunks] == [b"two"]


@every
@pytest.mark.parametrize("format", AudioFormat)
async def test_what_is_sent_to_be_read(dialect: Dialect, format: AudioFormat) -> None:
    made = AudioFormat.pcm if format is AudioFormat.wav else format
    async with gateway(dialect) as (voices, server):
        server.will(Answer([b"audio"]))
        assert await spoken(voices, made) == b"audio"
        [request] = server.requests
    assert dialect.read(request) == Read(dialect.speak_path, KEY, TEXT, dialect.voice, dialect.formats[format], 1.1)


@every
async def test_a_key_may_come_with_a_line_break(dialect: Dialect) -> None:
    async with gateway(dialect, key=f" {KEY}\r\n") as (voices, server):
        server.will(Answer([b"audio"]))
        assert await spoken(voices) == b"audio"
        [request] = server.requests
    assert dialect.key(request) == KEY


@every
@pytest.mark.parametrize("language", [None, "en"])
async def test_what_is_sent_to_be_understood(dialect: Dialect, file: Path, language: str | None) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(dialect.transcript)
        assert await heard(voices, file, language) == dialect.transcribed
        [request] = server.requests
    assert (request.path, dialect.key(request)) == (dialect.listen_path, KEY)
    assert b'name="file"; filename="audio.wav"' in request.content
    assert dialect.stt.encode() in request.content
    assert b"RIFF-samples" in request.content
    assert (b'name="language' in request.content) is (language is not None)


@pytest.mark.parametrize(("dialect", "answer", "code"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_failure_has_a_code_and_repeats_nothing(
    dialect: Dialect, answer: Answer, code: str, file: Path
) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(answer)
        for ask in (spoken(voices), heard(voices, file)):
            with everything_logged() as log, pytest.raises(SpeechFailure) as caught:
                await ask
            failure = caught.value
            assert (failure.status, failure.code, failure.__suppress_context__) == (503, code, True)
            assert SECRET not in str(failure)
            assert "speech failed" in log.getvalue()
            assert SECRET not in log.getvalue()
            assert failure.headers == ({"Retry-After": "20"} if "retry-after" in answer.headers else {})
    assert server.requests


@every
async def test_what_breaks_off_is_a_failure_after_what_arrived(dialect: Dialect) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(Answer([b"one"], end=End.cut))
        async with aclosing(voices.tts.get().speak(TEXT, None, AudioFormat.mp3, 1)) as chunks:
            assert await anext(chunks) == b"one"
            with pytest.raises(SpeechFailure) as caught:
                await anext(chunks)
    assert caught.value.code == "speech_disconnected"


@every
async def test_silence_has_an_end(dialect: Dialect, file: Path) -> None:
    async with gateway(dialect, silence=0.2) as (voices, server):
        server.will(Answer(end=End.silence))
        for ask in (spoken(voices), heard(voices, file)):
            with pytest.raises(SpeechFailure) as caught:
                await ask
            assert caught.value.code == "speech_timeout"


@every
async def test_who_leaves_lets_the_connection_go(dialect: Dialect) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(Answer([b"one"], end=End.silence))
        async with aclosing(voices.tts.get().speak(TEXT, None, AudioFormat.mp3, 1)) as chunks:
            await anext(chunks)
        await asyncio.wait_for(server.connections[-1].wait(), 30)


@every
async def test_an_answer_that_makes_no_sense_is_a_failure(dialect: Dialect, file: Path) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(problem(200, {"words": SECRET}))
        with pytest.raises(SpeechFailure) as caught:
            await heard(voices, file)
    assert caught.value.code == "speech_error"


@every
async def test_voices(dialect: Dialect) -> None:
    async with gateway(dialect, tts_voice=None) as (voices, server):
        if dialect.listing:
            server.will(dialect.listing, Answer([b"audio"]))
            assert await spoken(voices) == b"audio"  # with the first of the voices
            assert dialect.read(server.requests[-1]).path == dialect.speak_path
            server.will(dialect.listing)
        assert await voices.tts.get().voices() == dialect.voices


@every
async def test_a_voice_that_nobody_has(dialect: Dialect) -> None:
    async with gateway(dialect) as (voices, server):
        server.will(dialect.unknown_voice or Answer([b"audio"]))
        with pytest.raises(NoSuchVoice, match="There is no voice nobody; GET /speech/voices lists"):
            await spoken(voices, voice="nobody")


@every
@pytest.mark.parametrize("setting", ["tts_provider", "stt_provider"])
async def test_a_key_that_is_missing_ends_the_start(
    dialect: Dialect, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(dialect.key_variable, raising=False)
    sentence = f"{setting.upper()}={dialect.provider} cannot be used: set {dialect.key_variable} in .env or in the"
    with pytest.raises(SetupError, match=sentence):
        async with open_providers(SpeechSettings.model_validate({setting: dialect.provider})):
            pass
