"""Tests speech synthesis: what is returned, counted and limited."""

import asyncio
import io
import json
import wave
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.core.errors import SetupError
from app.core.findings import Off
from app.models.usage import Reservation
from app.schemas.speech import AudioFormat, SynthesisCreate
from app.services.speech.errors import SpeechFailure, SpeechOverloaded
from app.services.speech.providers import offline
from app.services.speech.registry import diagnostics
from app.services.speech.service import SpeechService
from app.services.speech.usage import SpeechMeter
from tests.conftest import MakeSettings, client_for, listening, running, sign_in
from tests.integration.test_errors import assert_problem
from tests.readers import Reader, use

SYNTHESIZE, VOICES, USAGE, ME = (
    "/api/v1/speech/synthesize",
    "/api/v1/speech/voices",
    "/api/v1/usage",
    "/api/v1/users/me",
)
SENTENCES = "One two. Three."
"""Splits into two pieces, of 8 and 6 characters."""
NOBODY_READS = (
    "Text to speech is not installed: run `uv sync --extra speech-offline`, or name a provider in TTS_PROVIDER."
)
NOBODY_UNDERSTANDS = (
    "Speech to text is not installed: run `uv sync --extra speech-offline`, or name a provider in STT_PROVIDER."
)

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def reader(app: FastAPI) -> Reader:
    use(app, reader=(reader := Reader(b"au", b"dio")))
    return reader


@asynccontextmanager
async def served(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncGenerator[tuple[FastAPI, httpx2.AsyncClient]]:
    """Runs an application with these settings, which may be those of the speech feature, for a signed-in user."""
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), str(value))
    async with running(make_settings()) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        yield app, client


async def usage(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get(USAGE)).json()["days"]


async def reservations(app: FastAPI) -> int:
    async with app.state.database.read() as session:
        return await session.scalar(select(func.count(Reservation.id)))


async def service(app: FastAPI, client: httpx2.AsyncClient) -> SpeechService:
    """Makes the service as the routes use it: an in-process client reads no answer before it is complete."""
    state, user_id = app.state, UUID((await client.get(ME)).json()["id"])
    meter = SpeechMeter(state.database, state.budgets, state.speech_slots, user_id)
    return SpeechService(state.speech_settings, state.speech_providers, meter, user_id)


@only_sqlite
@pytest.mark.parametrize(
    ("format", "media_type", "made"),
    [
        (None, "audio/mpeg", "mp3"),
        ("mp3", "audio/mpeg", "mp3"),
        ("pcm", "audio/pcm;rate=8000", "pcm"),
        ("wav", "audio/wav", "pcm"),
    ],
)
async def test_a_text_is_read_piece_by_piece(
    alice: httpx2.AsyncClient, reader: Reader, format: str | None, media_type: str, made: str
) -> None:
    body = {"text": f" {SENTENCES}\n", "voice": "one", "speed": 2, **({"format": format} if format else {})}
    answer = await alice.post(SYNTHESIZE, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert reader.asked == [("One two.", "one", AudioFormat(made), 2), ("Three.", "one", AudioFormat(made), 2)]
    if format == "wav":
        with wave.open(io.BytesIO(answer.content)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8_000, 1, 2)
        assert answer.content[44:] == b"audioaudio"
    else:
        assert answer.content == b"audioaudio"


@only_sqlite
@pytest.mark.usefixtures("reader")
async def test_what_is_offered(alice: httpx2.AsyncClient) -> None:
    assert (await alice.get(VOICES)).json() == {
        "voices": [{"id": "one", "name": "One"}],
        "formats": ["mp3", "pcm", "wav"],
        "slowest": 0.5,
        "fastest": 2.0,
    }


@only_sqlite
@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({"format": "opus"}, "invalid", "The format opus is not available; use mp3 or pcm or wav."),
        ({"format": "aiff"}, "validation_error", "The request is not valid."),
        ({"speed": 3}, "invalid", "The speed must be between 0.5 and 2."),
        ({"speed": 9}, "validation_error", "The request is not valid."),
        ({"text": " \n"}, "validation_error", "The request is not valid."),
        ({"text": "x" * 20_001}, "invalid", "A text has at most 20000 characters."),
    ],
)
async def test_what_cannot_be_read_is_refused(
    alice: httpx2.AsyncClient, reader: Reader, body: dict[str, Any], code: str, sentence: str
) -> None:
    answer = await alice.post(SYNTHESIZE, json={"text": "Hello.", **body})
    assert_problem(answer, 422, code)
    assert answer.json()["detail"] == sentence
    assert reader.asked == []
    assert await usage(alice) == []


@only_sqlite
async def test_a_text_without_a_sound_is_refused(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, reader=Reader(b""))
    answer = await alice.post(SYNTHESIZE, json={"text": "...", "format": "wav"})
    assert_problem(answer, 422, "invalid")
    assert answer.json()["detail"] == "This text has nothing that can be read aloud."


async def test_audio_comes_as_it_is_made_and_is_counted_as_far_as_it_came(
    alice: httpx2.AsyncClient, app: FastAPI
) -> None:
    go_on = asyncio.Event()
    use(app, reader=Reader(b"one", go_on, b"two"))
    speech = await service(app, alice)
    async with speech.synthesize(SynthesisCreate(text=SENTENCES)) as spoken:
        assert await anext(spoken.audio) == b"one"
        assert await reservations(app) == 1
        go_on.set()
        assert await anext(spoken.audio) == b"two"
    [row] = await usage(alice)
    same = {"feature": "speech", "model": "acme:reader", "requests": 1, "input_tokens": 0, "output_tokens": 0}
    assert row == {"day": row["day"], **same, "characters": 8, "seconds": 0, "cost": None}
    assert await reservations(app) == 0


@only_sqlite
async def test_a_failure_before_the_first_bytes_is_a_problem_and_costs_nothing(
    alice: httpx2.AsyncClient, app: FastAPI
) -> None:
    use(app, reader=Reader(SpeechOverloaded(retry_after="7")))
    answer = await alice.post(SYNTHESIZE, json={"text": "Hello."})
    assert_problem(answer, 503, "speech_overloaded")
    assert answer.headers["retry-after"] == "7"
    assert (await usage(alice), await reservations(app)) == ([], 0)
    use(app, reader=Reader(b"audio"))
    answer = await alice.post(SYNTHESIZE, json={"text": "Hello."})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store, no-transform")


@only_sqlite
async def test_a_failure_later_is_counted_as_far_as_it_came(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, reader=Reader(b"one", SpeechFailure()))
    speech = await service(app, alice)
    with pytest.raises(SpeechFailure):
        async with speech.synthesize(SynthesisCreate(text=SENTENCES)) as spoken:
            assert [chunk async for chunk in spoken.audio] == [b"one"]
    assert [row["characters"] for row in await usage(alice)] == [8]
    assert await reservations(app) == 0


@only_sqlite
async def test_so_many_at_a_time(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, reader=Reader(b"one"))
    app.state.speech_slots._limit = 1
    speech = await service(app, alice)
    async with speech.synthesize(SynthesisCreate(text="Hello.")):
        assert_problem(await alice.post(SYNTHESIZE, json={"text": "Hello."}), 429, "too_many_at_once")
    assert (await alice.post(SYNTHESIZE, json={"text": "Hello."})).status_code == 200


async def test_so_many_characters_a_day(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(make_settings, monkeypatch, speech_characters_per_day=20) as (app, client):
        use(app, reader=Reader(b"audio"))
        assert (await client.post(SYNTHESIZE, json={"text": SENTENCES})).status_code == 200
        answer = await client.post(SYNTHESIZE, json={"text": SENTENCES})
        assert_problem(answer, 402, "budget_exhausted")
        assert answer.json()["detail"].startswith(
            "This request may use up to 15 characters; 6 characters of your budget of 20 characters a day remain."
        )
        [budget] = (await client.get(USAGE)).json()["budgets"]
        assert (budget["unit"], budget["limit"], budget["used"], budget["left"]) == ("characters", "20", "14", "6")


@only_sqlite
async def test_a_price_that_a_setting_says(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(make_settings, monkeypatch, tts_dollars_per_million_characters=15) as (app, client):
        use(app, reader=Reader(b"audio"))
        await client.post(SYNTHESIZE, json={"text": "Hello."})
        assert [(row["characters"], row["cost"]) for row in await usage(client)] == [(6, "0.00009")]


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the offline packages, whether the environment has them or not."""
    monkeypatch.setattr(offline, "find_spec", lambda _: None)


@only_sqlite
@pytest.mark.usefixtures("_not_installed")
async def test_without_anybody_who_reads_there_are_no_voices(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(make_settings, monkeypatch) as (_, client):
        answer = await client.get(VOICES)
        assert (answer.status_code, answer.json()) == (
            200,
            {"voices": [], "formats": [], "slowest": 1.0, "fastest": 1.0},
        )


@only_sqlite
@pytest.mark.usefixtures("_not_installed")
async def test_without_what_works_offline_people_are_told_what_is_not_there(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(make_settings, monkeypatch) as (_, client):
        info = (await client.get("/api/v1/info")).json()
        assert "speech" not in info["features"]
        assert not [name for name in info["limits"] if name.startswith(("synthesis", "transcription"))]
        for answer, sentence in (
            (await client.post(SYNTHESIZE, json={"text": "Hello."}), "This service cannot read aloud."),
            (await post_audio(client, "/api/v1/speech/transcribe"), "This service cannot understand speech."),
        ):
            assert_problem(answer, 503, "speech_not_installed")
            assert answer.json()["detail"] == sentence


async def post_audio(client: httpx2.AsyncClient, path: str) -> httpx2.Response:
    return await client.post(path, files={"file": ("a.wav", b"RIFF")})


@only_sqlite
@pytest.mark.usefixtures("_not_installed")
async def test_the_log_says_once_what_to_install(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(make_settings, monkeypatch, log_format="json") as (_, client):
        await client.post(SYNTHESIZE, json={"text": "Hello."})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line["logger"] == "app.speech"]
    assert (line["event"], line["level"]) == ("speech is not installed", "info")
    assert line["advice"] == f"{NOBODY_READS} {NOBODY_UNDERSTANDS}"


@only_sqlite
async def test_what_is_there_is_announced(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "find_spec", lambda name: name == "pocketsphinx" or None)
    async with served(make_settings, monkeypatch, transcription_max_seconds=30) as (_, client):
        info = (await client.get("/api/v1/info")).json()
    assert "speech" in info["features"]
    assert "synthesis_characters" not in info["limits"]
    assert info["limits"]["transcription_seconds"] == 30


@only_sqlite
async def test_a_provider_that_is_not_known_ends_the_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match=r"^STT_PROVIDER=acme cannot be used: name one of .*offline"):
        async with served(make_settings, monkeypatch, stt_provider="acme"):
            pass


@only_sqlite
async def test_a_provider_that_breaks_off_cuts_the_connection(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    """Uses a real server: a client must not take an incomplete answer for a complete one."""
    use(app, reader=Reader(b"one", SpeechFailure()))
    async with (
        listening(app) as url,
        httpx2.AsyncClient(base_url=url, headers=alice.headers) as client,
        client.stream("POST", SYNTHESIZE, json={"text": "Hello."}) as answer,
    ):
        assert answer.status_code == 200
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"one"
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(chunks)
    assert await reservations(app) == 0
    assert [row["characters"] for row in await usage(alice)] == [6]


@only_sqlite
async def test_a_reader_that_leaves_ends_the_reading(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, reader=Reader(b"one", asyncio.Event()))
    async with listening(app) as url, httpx2.AsyncClient(base_url=url, headers=alice.headers) as client:
        async with client.stream("POST", SYNTHESIZE, json={"text": "Hello."}) as answer:
            assert await anext(answer.aiter_bytes()) == b"one"
        while await reservations(app):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [row["characters"] for row in await usage(alice)] == [6]


@pytest.mark.usefixtures("_not_installed")
async def test_to_lack_speech_is_neither_well_nor_a_problem() -> None:
    assert await diagnostics() == [Off(NOBODY_READS), Off(NOBODY_UNDERSTANDS)]
    assert {type(line) for line in await diagnostics()} == {Off}
