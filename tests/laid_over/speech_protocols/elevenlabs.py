from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from app.services.speech.stt import Segment, Transcript
from app.services.speech.tts import Voice
from tests.protocols.dialect import REQUEST_ID, SECRET
from tests.protocols.server import Answer, End, Request, problem
from tests.speech_protocols.case import Dialect, Read

WORDS = [
    ("Yes,", 0.1, 0.4),
    (" ", 0.4, 0.5),
    ("indeed.", 0.5, 0.9),
    (" ", 0.9, 1.0),
    ("Why?", 1.0, 1.3),
    ("!", 1.3, 1.4),
]


def refused(status: int, code: str, **headers: str) -> Answer:
    return problem(status, {"detail": {"status": code, "message": f"No {SECRET} ({REQUEST_ID})"}}, **headers)


class ElevenLabs(Dialect):
    provider = "elevenlabs"
    key_variable = "ELEVENLABS_API_KEY"
    url_variable = "ELEVENLABS_BASE_URL"
    speak_path = "/v1/text-to-speech/a%2Fb/stream"
    listen_path = "/v1/speech-to-text"
    tts = "eleven_multilingual_v2"
    stt = "scribe_v2"
    formats: ClassVar = {"mp3": "mp3_44100_128", "opus": "opus_48000_64", "wav": "pcm_24000", "pcm": "pcm_24000"}
    voice = "a/b"
    voices: ClassVar = [Voice("a/b", "George"), Voice("c", "Sarah")]
    listing = problem(
        200, {"voices": [{"voice_id": v.id, "name": v.name, "labels": {}} for v in voices], "has_more": False}
    )
    unknown_voice = refused(404, "voice_not_found")
    transcript = problem(
        200,
        {
            "language_code": "eng",
            "language_probability": 0.98,
            "text": "Yes, indeed. Why?!",
            "words": [{"text": text, "start": start, "end": end, "type": "word"} for text, start, end in WORDS],
        },
    )
    transcribed = Transcript(
        "Yes, indeed. Why?!",
        "eng",
        [Segment(0.1, 0.9, "Yes, indeed."), Segment(0.9, 1.3, "Why?"), Segment(1.3, 1.4, "!")],
    )
    failures: ClassVar = {
        "key refused": (refused(401, "invalid_api_key"), "speech_refused_key"),
        "rate limit": (refused(429, "too_many_concurrent_requests", retry_after="20"), "speech_overloaded"),
        "quota": (refused(401, "quota_exceeded"), "speech_quota"),
        "no credit": (refused(402, "payment_required"), "speech_quota"),
        "server error": (refused(500, "internal"), "speech_unavailable"),
        "bad request": (problem(422, {"detail": [{"loc": ["hunter2"], "msg": "no"}]}), "speech_error"),
        "a proxy's page": (Answer([b"<html>hunter2</html>"], 502), "speech_unavailable"),
        "no answer": (Answer(end=End.cut), "speech_disconnected"),
    }

    def read(self, request: Request) -> Read:
        url, body = urlsplit(request.path), request.body
        assert body["model_id"] == self.tts
        [format] = parse_qs(url.query)["output_format"]
        speed = body["voice_settings"]["speed"]
        return Read(url.path, self.key(request), body["text"], self.voice, format, speed)

    def key(self, request: Request) -> str:
        return request.headers["xi-api-key"]


DIALECT = ElevenLabs()
