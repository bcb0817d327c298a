"""Describes what the streaming protocols of all providers have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, ClassVar

import pytest

from tests.protocols.server import Answer, End, Request

SECRET = "hunter2"
"""Marks everything that no log and no answer may repeat: the key, a user's text, a provider's text."""
KEY = f"sk-{SECRET}-0123456789"
REQUEST_ID = f"req_{SECRET}"
SO_FAR = f"{SECRET} is"
SIGNATURE = "c2lnbmVk"
"""Signs reasoning, or stands for what is encrypted of it."""
INPUT_TOKENS, OUTPUT_TOKENS = 12, 5
"""Counts the tokens of each reply, as its last event reports them."""
_PAGE, _HTML = f"<html>{SECRET}</html>".encode(), {"content-type": "text/html"}


@dataclass(frozen=True)
class Failure:
    """Pairs what a provider sends with the code of the failure, and with the text before it."""

    answer: Answer
    code: str
    text: str = ""


@dataclass(frozen=True)
class Call:
    """Describes a tool call, with its arguments in the pieces in which they are streamed."""

    id: str
    name: str
    pieces: Sequence[str] = ("{}",)


@dataclass(frozen=True)
class Sent:
    """Describes a request in terms that are common to all providers; `said` are pairs of role and text."""

    path: str
    key: str
    model: str
    system: str
    said: Sequence[tuple[str, str]]


class Dialect(ABC):
    sdk: ClassVar[str]
    """Names the package that speaks the protocol."""
    model: ClassVar[str]
    """Names the model as AI_MODEL does."""
    key_variable: ClassVar[str]
    url_variable: ClassVar[str]
    url_path: ClassVar[str] = ""
    path: ClassVar[str]
    """Names the path of requests."""

    refused_key: Answer
    rate_limited: Answer
    broken: Answer
    overloaded: Answer
    too_long: Answer | None = None
    out_of_quota: Answer | None = None

    stop_reasons: ClassVar[Sequence[str]] = ("length",)
    """Lists the stop reasons of an answer that reached its length limit."""
    new_reasons: ClassVar[Sequence[str]] = ("newer_than_this_library",)
    """Lists stop reasons that no SDK knows, where the SDK lets them pass."""
    filter_reason: ClassVar[str | None] = "content_filter"
    odd_frames: ClassVar[Mapping[str, bytes]] = {
        "no JSON": b"event: odd\ndata: {hunter2\n\n",
        "no text": b"event: odd\ndata: \xff\xfe hunter2\n\n",
    }
    odd_code: ClassVar[str] = "model_error"
    cost: ClassVar[Decimal | None] = None
    """Holds the cost of INPUT_TOKENS and OUTPUT_TOKENS, where the model that reports them has a price."""
    writes_arguments: ClassVar[bool] = True
    """Tells whether the arguments of a call are text as the model wrote it, and not an object."""
    has_own_retries: ClassVar[bool] = False
    blocks_threads: ClassVar[bool] = False
    """Tells whether the SDK waits in a thread, which outlives a reply that is abandoned before its first byte."""
    keeps_connections: ClassVar[bool] = True
    """Tells whether the SDK reuses a connection."""
    frees_connections: ClassVar[bool] = True
    """Tells whether the SDK releases the connection of an abandoned reply at once, not with garbage collection."""
    closes_connections: ClassVar[bool] = True
    """Tells whether the SDK closes its connections when it is closed, and not only with the process."""

    @property
    def installed(self) -> bool:
        return find_spec(self.sdk) is not None

    def point_at(self, url: str, patch: pytest.MonkeyPatch) -> None:
        """Sets the variables in which the SDK finds its key, and the test's server in place of its provider's."""
        patch.setenv(self.key_variable, KEY)
        patch.setenv(self.url_variable, url + self.url_path)

    @abstractmethod
    def sent(self, request: Request) -> Sent: ...

    @abstractmethod
    def opening(self) -> Sequence[bytes]: ...

    @abstractmethod
    def delta(self, text: str) -> bytes: ...

    @abstractmethod
    def closing(self, text: str, reason: str | None = None) -> Sequence[bytes]:
        """Returns what ends a reply with this whole text; without a reason the reply is complete."""

    @abstractmethod
    def calling(self, text: str, *calls: Call) -> Sequence[bytes]:
        """Returns a whole reply that has the text, if there is any, and then calls tools."""

    @abstractmethod
    def reasoning(self, *pieces: str) -> Sequence[bytes]:
        """Returns the frames that show reasoning, with its signature where the provider signs any."""

    def reason_and_call(self, *pieces: str, call: Call) -> Answer:
        begin, *rest = self.calling("", call)
        return self.answer([begin, *self.reasoning(*pieces), *rest])

    def reason_and_speak(self, *pieces: str, deltas: Sequence[str], pauses: Sequence[Any] = ()) -> Answer:
        """Shows reasoning and says the deltas; waits for `pauses`, the events after the reasoning and after each."""
        [*first], [*rest] = self.opening()[:1], self.opening()[1:]
        frames: list[Any] = [*first, *self.reasoning(*pieces), *pauses[:1], *rest]
        for number, delta in enumerate(deltas, 1):
            frames += [self.delta(delta), *pauses[number : number + 1]]
        return self.answer([*frames, *self.closing("".join(deltas))])

    def begin(self, *deltas: str) -> Sequence[bytes]:
        return [*self.opening(), *map(self.delta, deltas)]

    def speak(self, *deltas: str, reason: str | None = None) -> Answer:
        return self.answer([*self.begin(*deltas), *self.closing("".join(deltas), reason)])

    def break_off(self, *deltas: str, end: End) -> Answer:
        """Streams the deltas without an end event; with `End.whole` the stream closes as if it were complete."""
        return self.answer(self.begin(*deltas), end)

    def interrupt(self, *deltas: str, frame: bytes) -> Answer:
        """Streams a reply with a frame in its middle that does not belong there."""
        return self.answer([*self.begin(*deltas), frame, *self.closing("".join(deltas))])

    def answer(self, frames: Sequence[Any], end: End = End.whole) -> Answer:
        return Answer(frames, end=end)

    def failures(self) -> Mapping[str, Failure]:
        """Returns all failures except for timeouts, which take time."""
        call = self.answer(self.calling(SO_FAR, Call("call_1", SECRET)))
        return {
            "key refused": Failure(self.refused_key, "model_refused_key"),
            "rate limit": Failure(self.rate_limited, "model_overloaded"),
            "server error": Failure(self.broken, "model_unavailable"),
            "overloaded": Failure(self.overloaded, "model_overloaded"),
            "a proxy's page": Failure(Answer([_PAGE], 502, _HTML), "model_unavailable"),
            "a page instead of a stream": Failure(Answer([_PAGE], 200, _HTML), "model_error"),
            "no answer": Failure(Answer(end=End.cut), "model_disconnected"),
            "cut": Failure(self.break_off(SO_FAR, end=End.cut), "model_disconnected", SO_FAR),
            "no last word": Failure(self.break_off(SO_FAR, end=End.whole), "model_disconnected", SO_FAR),
            "nothing said": Failure(self.speak(), "empty_answer"),
            "tool call": Failure(call, "tool_call", SO_FAR),
            **{name: self.odd(frame) for name, frame in self.odd_frames.items()},
            **({"context too long": Failure(self.too_long, "context_too_long")} if self.too_long else {}),
            **({"quota": Failure(self.out_of_quota, "model_quota")} if self.out_of_quota else {}),
            **({"content filter": self._filtered(self.filter_reason)} if self.filter_reason else {}),
        }

    def odd(self, frame: bytes) -> Failure:
        return self.interrupted(frame, self.odd_code)

    def interrupted(self, frame: bytes, code: str) -> Failure:
        return Failure(self.interrupt(SO_FAR, frame=frame), code, SO_FAR)

    def _filtered(self, reason: str) -> Failure:
        return Failure(self.speak(SO_FAR, reason=reason), "content_filtered", SO_FAR)
