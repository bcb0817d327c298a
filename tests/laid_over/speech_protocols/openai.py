from typing import ClassVar

from app.services.speech.stt import Segment, Transcript
from app.services.speech.tts import Voice
from tests.protocols.dialect import REQUEST_ID, SECRET
from tests.protocols.server import Answer, End, Request, problem
from tests.speech_protocols.case import Dialect, Read

NAMES = [
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
]


def refused(status: int, code: str | None, **headers: str) -> Answer:
    error = {"message": f"No {SECRET} ({REQUEST_ID})", "type": "some_error", "param": None, "code": code}
    return problem(status, {"error": error}, x_request_id=REQUEST_ID, **headers)


class OpenAI(Dialect):
    provider = "openai"
    key_variable = "OPENAI_API_KEY"
    url_variable = "OPENAI_BASE_URL"
    url_path = "/v1"
    speak_path = "/v1/audio/speech"
    listen_path = "/v1/audio/transcriptions"
    tts = "gpt-4o-mini-tts"
    stt = "whisper-1"
    formats: ClassVar = {"mp3": "mp3", "opus": "opus", "wav": "pcm", "pcm": "pcm"}
    voice = "nova"
    voices: ClassVar = [Voice(name, name.capitalize()) for name in NAMES]
    transcript = problem(
        200,
        {
            "task": "transcribe",
            "language": "english",
            "duration": 2.0,
            "text": "Yes, indeed.",
            "segments": [{"id": 0, "start": 0.0, "end": 1.5, "text": " Yes, indeed.", "tokens": [1]}],
        },
    )
    transcribed = Transcript("Yes, indeed.", "english", [Segment(0.0, 1.5, "Yes, indeed.")])
    failures: ClassVar = {
        "key refused": (refused(401, "invalid_api_key"), "speech_refused_key"),
        "rate limit": (refused(429, "rate_limit_exceeded", retry_after="20"), "speech_overloaded"),
        "quota": (refused(429, "insufficient_quota"), "speech_quota"),
        "server error": (refused(500, None), "speech_unavailable"),
        "bad request": (refused(400, None), "speech_error"),
        "a proxy's page": (Answer([b"<html>hunter2</html>"], 502), "speech_unavailable"),
        "no answer": (Answer(end=End.cut), "speech_disconnected"),
    }

    def read(self, request: Request) -> Read:
        body = request.body
        assert body["model"] == self.tts
        asked = body["input"], body["voice"], body["response_format"], body["speed"]
        return Read(request.path, self.key(request), *asked)

    def key(self, request: Request) -> str:
        return request.headers["authorization"].removeprefix("Bearer ")


DIALECT = OpenAI()
