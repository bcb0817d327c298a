"""Tests transcription: what is returned, counted, limited, kept and cleaned up."""

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.core.errors import Busy
from app.services.processes.process_pool import open_process_pool
from app.services.speech.errors import SpeechUnavailable
from app.services.speech.stt import Segment, Transcript
from tests.conftest import MakeSettings
from tests.integration.test_errors import assert_problem
from tests.integration.test_speech import listening, only_sqlite, reservations, served, usage
from tests.readers import Listener, use
from tests.recordings import recording, tone, wav

TRANSCRIBE = "/api/v1/speech/transcribe"
FOUND = Transcript(" Yes,\0 indeed.", "en", [Segment(0, 1.5, "Yes,\ud800 indeed.")])


@pytest.fixture
def listener(app: FastAPI) -> Listener:
    use(app, listener=(listener := Listener(FOUND)))
    return listener


@pytest.fixture
def _nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Asserts that no temporary file is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


async def send(client: httpx2.AsyncClient, content: bytes, **fields: str) -> httpx2.Response:
    return await client.post(TRANSCRIBE, files={"file": ("holiday.png", content, "image/png")}, data=fields)


@pytest.mark.usefixtures("_nothing_left_behind")
async def test_what_is_said_is_answered_and_counted(
    alice: httpx2.AsyncClient, app: FastAPI, listener: Listener
) -> None:
    content = recording("mp3", 2.5)
    answer = await send(alice, content, language="en")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert 2.4 < found.pop("duration") < 2.7
    segments = [{"start": 0.0, "end": 1.5, "text": "Yes,? indeed."}]
    assert found == {"text": "Yes, indeed.", "language": "en", "segments": segments}
    [(heard, audio, language)] = listener.asked
    assert (heard, audio.format, language) == (content, "mp3", "en")
    [row] = await usage(alice)
    assert (row["feature"], row["model"], row["seconds"], row["characters"]) == ("speech", "acme:listener", 3, 0)
    assert row["cost"] is None
    assert await reservations(app) == 0


@pytest.mark.usefixtures("_nothing_left_behind")
@only_sqlite
@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"", "bad_audio", "The file is empty."),
        (b"Dear Sir or Madam, ", "bad_audio", "Unsupported audio format; use one of flac, m4a, mp3, ogg, wav, webm."),
        (recording("mp3", 10)[:9000], "bad_audio", "The audio ends too early: the file is not complete."),
        (wav(tone(11)), "audio_too_long", "The audio is longer than 10 seconds."),
        (wav(bytes(64_000)), "nothing_said", "Nothing can be heard in this audio."),
    ],
    ids=["empty", "text", "truncated", "long", "silent"],
)
async def test_bad_audio_is_refused_and_leaves_nothing_behind(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    code: str,
    sentence: str,
) -> None:
    async with served(make_settings, monkeypatch, transcription_max_seconds=10) as (app, client):
        use(app, listener=(listener := Listener(FOUND)))
        answer = await send(client, content)
        assert_problem(answer, 422, code)
        assert answer.json()["detail"].startswith(sentence)
        assert (listener.asked, await usage(client)) == ([], [])


@only_sqlite
@pytest.mark.usefixtures("listener")
async def test_a_request_that_is_none_is_refused(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    audio = recording("wav")
    requests: list[tuple[int, str, dict[str, Any]]] = [
        (400, "bad_request", {"content": audio, "headers": {"Content-Type": "audio/wav"}}),
        (400, "bad_request", {"content": audio, "headers": {"Content-Type": "multipart/form-data"}}),
        (400, "bad_request", {"files": {"sound": ("a.wav", audio)}}),
        (400, "bad_request", {"files": [("file", ("a.wav", audio)), ("file", ("b.wav", audio))]}),
        (422, "validation_error", {"files": {"file": ("a.wav", audio)}, "data": {"language": "english"}}),
        (422, "validation_error", {"files": {"file": ("a.wav", audio)}, "data": {"langage": "en"}}),
    ]
    for status, code, request in requests:
        assert_problem(await alice.post(TRANSCRIBE, **request), status, code)
    answer = await send(alice, audio, langage="en")
    assert answer.json()["errors"] == [{"field": "body.langage", "message": "Extra inputs are not permitted"}]
    assert_problem(await send(client, audio), 401, "unauthenticated")


@pytest.mark.usefixtures("_nothing_left_behind")
@only_sqlite
@pytest.mark.parametrize("content", [wav(tone(4)), wav(tone(5))], ids=["the file", "the body"])
async def test_a_file_that_is_too_large_is_refused(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    async with served(make_settings, monkeypatch, transcription_max_bytes=90_000) as (app, client):
        use(app, listener=(listener := Listener(FOUND)))
        assert (await send(client, wav(tone(2)))).status_code == 200
        assert_problem(await send(client, content), 413, "body_too_large")
        assert len(listener.asked) == 1


@only_sqlite
@pytest.mark.usefixtures("listener", "_nothing_left_behind")
async def test_an_upload_that_breaks_off_is_no_error_of_ours(
    alice: httpx2.AsyncClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: test\r\nAuthorization: {alice.headers['authorization']}\r\n"
    head += "Content-Length: 5000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
    part = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + "a" * 2_000_000
    async with listening(app) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write((head + part).encode())
        await writer.drain()
        writer.close()
    lines: list[Any] = [record.msg for record in caplog.records if TRANSCRIBE in str(record.msg)]
    assert [line["status"] for line in lines] == [400]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@only_sqlite
async def test_nobody_says_anything(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, listener=Listener(Transcript(" ")))
    answer = await send(alice, recording("wav"))
    assert_problem(answer, 422, "nothing_said")
    assert [row["seconds"] for row in await usage(alice)] == [2]  # the audio was transcribed all the same


@pytest.mark.usefixtures("_nothing_left_behind")
@only_sqlite
async def test_a_failure_costs_nothing(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    use(app, listener=Listener(SpeechUnavailable()))
    assert_problem(await send(alice, recording("wav")), 503, "speech_unavailable")
    assert (await usage(alice), await reservations(app)) == ([], 0)


async def test_so_many_seconds_a_day(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"speech_seconds_per_day": 3, "stt_dollars_per_hour": "0.36"}
    async with served(make_settings, monkeypatch, **settings) as (app, client):
        use(app, listener=Listener(FOUND))
        assert (await send(client, recording("wav"))).status_code == 200
        assert_problem(await send(client, recording("wav")), 402, "budget_exhausted")
        [budget] = (await client.get("/api/v1/usage")).json()["budgets"]
        assert (budget["unit"], budget["used"], budget["left"]) == ("seconds", "2", "1")
        assert [row["cost"] for row in await usage(client)] == ["0.0002"]


@only_sqlite
async def test_audio_is_kept_if_a_setting_says_so(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with served(make_settings, monkeypatch, transcription_folder=tmp_path / "kept") as (app, client):
        use(app, listener=Listener(FOUND))
        assert (await send(client, recording("flac"))).status_code == 200
        user_id = (await client.get("/api/v1/users/me")).json()["id"]
    [kept] = (tmp_path / "kept" / user_id).glob("*.flac")
    assert kept.read_bytes() == recording("flac")


@only_sqlite
async def test_audio_that_cannot_be_kept_does_not_cost_the_transcript(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").touch()  # a file, and no folder
    async with served(make_settings, monkeypatch, transcription_folder=tmp_path / "kept") as (app, client):
        use(app, listener=Listener(FOUND))
        assert (await send(client, recording("flac"))).status_code == 200
    assert "audio not kept" in capfd.readouterr().err


async def test_a_worker_that_dies_takes_nobody_along() -> None:
    async with open_process_pool(1) as workers:
        with pytest.raises(Busy):
            await workers.do(os._exit, 1)
        process_id = await workers.do(os.getpid)
        assert process_id != os.getpid()
        os.kill(process_id, signal.SIGINT)  # as Ctrl-C does to every process of a terminal
        assert await workers.do(os.getpid) == process_id


async def test_of_a_worker_that_died_no_thread_is_left() -> None:
    """Leaves no executor thread: one that shut down its own pool would wait for itself, and the process never end."""
    before = set(threading.enumerate())
    async with open_process_pool(1) as workers:
        with pytest.raises(Busy):
            await workers.do(os._exit, 1)
        left = {type(thread).__name__ for thread in set(threading.enumerate()) - before}
        assert "_ExecutorManagerThread" not in left
