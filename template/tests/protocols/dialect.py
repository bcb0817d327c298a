"""What every provider's streaming protocol has, whatever words it uses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from tests.protocols.server import Answer, End

SECRET = "hunter2"
"""Part of everything that no log and no answer may repeat: the key, a person's words, a provider's words."""
KEY = f"sk-{SECRET}-0123456789"
REQUEST_ID = f"req_{SECRET}"
SO_FAR = f"{SECRET} is"
_PAGE, _HTML = f"<html>{SECRET}</html>".encode(), {"content-type": "text/html"}


@dataclass(frozen=True)
class Failure:
    """What a provider sends, and what becomes of it: a code, after the text so far."""

    answer: Answer
    code: str
    text: str = ""


class Dialect(ABC):
    sdk: str
    """The package that speaks it."""
    model: str
    """As AI_MODEL names it."""
    key_variable: str
    url_variable: str
    url_path: str = ""

    refused_key: Answer
    rate_limited: Answer
    out_of_quota: Answer
    broken: Answer
    overloaded: Answer
    too_long: Answer

    @property
    def installed(self) -> bool:
        return find_spec(self.sdk) is not None

    def environment(self, url: str) -> Mapping[str, str]:
        return {self.key_variable: KEY, self.url_variable: url + self.url_path}

    @abstractmethod
    def opening(self) -> Sequence[bytes]: ...

    @abstractmethod
    def delta(self, text: str) -> bytes: ...

    @abstractmethod
    def closing(self, text: str) -> Sequence[bytes]:
        """What ends a reply whose whole text this is."""

    @abstractmethod
    def error(self, kind: str) -> bytes:
        """An event that reports an error inside an open stream."""

    def begin(self, *deltas: str) -> Sequence[bytes]:
        return [*self.opening(), *map(self.delta, deltas)]

    def speak(self, *deltas: str) -> Answer:
        return Answer([*self.begin(*deltas), *self.closing("".join(deltas))])

    def break_off(self, *deltas: str, end: End) -> Answer:
        """Says the deltas and no last word. `End.whole` is a stream that ends as if nothing were missing."""
        return Answer(self.begin(*deltas), end=end)

    def interrupt(self, *deltas: str, frame: bytes) -> Answer:
        """A reply with something in its middle that does not belong there."""
        return Answer([*self.begin(*deltas), frame, *self.closing("".join(deltas))])

    def failures(self) -> Mapping[str, Failure]:
        """All but timeouts, which take time."""
        return {
            "key refused": Failure(self.refused_key, "model_refused_key"),
            "rate limit": Failure(self.rate_limited, "model_overloaded"),
            "quota": Failure(self.out_of_quota, "model_quota"),
            "server error": Failure(self.broken, "model_error"),
            "overloaded": Failure(self.overloaded, "model_overloaded"),
            "context too long": Failure(self.too_long, "context_too_long"),
            "a proxy's page": Failure(Answer([_PAGE], 502, _HTML), "model_error"),
            "a page instead of a stream": Failure(Answer([_PAGE], 200, _HTML), "model_error"),
            "no answer": Failure(Answer(end=End.cut), "model_disconnected"),
            "cut": Failure(self.break_off(SO_FAR, end=End.cut), "model_disconnected", SO_FAR),
            "no JSON": self.odd(b"event: odd\ndata: {hunter2\n\n"),
            "no text": self.odd(b"event: odd\ndata: \xff\xfe hunter2\n\n"),
        }

    def reported(self, kind: str, code: str) -> Failure:
        return Failure(self.interrupt(SO_FAR, frame=self.error(kind)), code, SO_FAR)

    def odd(self, frame: bytes) -> Failure:
        return Failure(self.interrupt(SO_FAR, frame=frame), "model_error", SO_FAR)
