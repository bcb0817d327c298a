"""Defines how speech fails. The sentences are for clients, and quote no provider."""

from collections.abc import Mapping

import structlog

from app.core.errors import AppError

log = structlog.stdlib.get_logger("app.speech")


class SpeechFailure(AppError):
    """Means that a provider of speech failed. `retry_after` is the value of its Retry-After header."""

    status, code = 503, "speech_error"
    sentence = "The speech provider reported an error."

    def __init__(self, sentence: str = "", retry_after: str | None = None) -> None:
        super().__init__(sentence or self.sentence)
        self._retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": self._retry_after} if self._retry_after and self._retry_after.isdigit() else {}


class SpeechNotInstalled(SpeechFailure):
    """Means that no provider is installed. The sentence is for clients; `advice` tells the operator what to do."""

    code = "speech_not_installed"
    sentence = "Speech is not installed on this service."

    def __init__(self, sentence: str = "", advice: str = "") -> None:
        super().__init__(sentence)
        self.advice = advice


class SpeechRefusedKey(SpeechFailure):
    code = "speech_refused_key"
    sentence = "The speech provider refuses this service's key."


class SpeechQuota(SpeechFailure):
    code = "speech_quota"
    sentence = "This service's quota with the speech provider is used up."


class SpeechOverloaded(SpeechFailure):
    code = "speech_overloaded"
    sentence = "The speech provider is overloaded; try again later."


class SpeechUnavailable(SpeechFailure):
    code = "speech_unavailable"
    sentence = "The speech provider is unavailable; try again later."


class SpeechTimeout(SpeechFailure):
    code = "speech_timeout"
    sentence = "The speech provider did not answer in time."


class SpeechDisconnected(SpeechFailure):
    code = "speech_disconnected"
    sentence = "The connection to the speech provider was lost."


def failure_of_status(status: int, headers: Mapping[str, str]) -> SpeechFailure:
    """Returns the failure that an HTTP status of a provider stands for."""
    retry_after = headers.get("retry-after")
    match status:
        case 401 | 403:
            return SpeechRefusedKey()
        case 402:
            return SpeechQuota()
        case 429 | 503 | 529:
            return SpeechOverloaded(retry_after=retry_after)
        case _ if status >= 500:
            return SpeechUnavailable(retry_after=retry_after)
        case _:
            return SpeechFailure()


def log_failure(name: str, error: Exception, failure: AppError) -> AppError:
    """Logs a failure and returns it. The log has the type of the error, but not its text, which may quote a user."""
    if isinstance(failure, SpeechFailure):
        log.warning("speech failed", provider=name, code=failure.code, error=type(error).__name__)
    return failure
