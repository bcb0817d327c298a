"""Does what `useChat` of the AI SDK does: it sends the messages that it has, and builds the next one from chunks."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx2

CHAT = "/api/v1/ai-sdk/chat"
ENDED = ("output-available", "output-error", "output-denied")


def chunks_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Returns the chunks of a stream, which must have ended."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    told = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    assert told.pop() == "[DONE]"
    return [json.loads(chunk) for chunk in told]


async def followed_by(watch: Any, readers: int) -> None:
    """Waits until so many readers follow what a watch watches."""
    for _ in range(1_000):
        if sum(watched.followers for watched in watch._watched.values()) == readers:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"there are not {readers} readers")


def types_of(chunks: Sequence[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in chunks if not chunk["type"].endswith("-delta")]


class UiChat:
    def __init__(self, client: httpx2.AsyncClient, id: str | None = None, **body: Any) -> None:
        self.id = id or uuid4().hex[:16]
        self.messages: list[dict[str, Any]] = []
        self.answer: httpx2.Response | None = None
        self.chunks: list[dict[str, Any]] = []
        self.error: str | None = None
        self._client = client
        self._body = body

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def texts(self) -> list[str]:
        return [text_of(message) for message in self.messages]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [part for part in self.last["parts"] if "toolCallId" in part]

    @property
    def is_complete(self) -> bool:
        """Tells whether it sends by itself, once all calls of the last step have an approval or a result."""
        if self.last["role"] != "assistant":
            return False
        parts = self.last["parts"]
        first = max((place for place, part in enumerate(parts) if part["type"] == "step-start"), default=-1)
        step = [part for part in parts[first + 1 :] if "toolCallId" in part]
        own = [part for part in step if not part.get("providerExecuted")]
        answered = [part["state"] == "approval-responded" for part in step]
        with_approvals = any(answered) and all(part["state"] in (*ENDED, "approval-responded") for part in step)
        return with_approvals or (bool(own) and all(part["state"] in ENDED for part in own))

    async def send(self, text: str, message_id: str | None = None, **more: Any) -> list[dict[str, Any]]:
        """Sends a message, or edits the one with this id."""
        message = {"id": message_id or uuid4().hex[:16], "role": "user", "parts": [{"type": "text", "text": text}]}
        if message_id is not None:
            del self.messages[self._place(message_id) :]
        self.messages.append(message)
        return await self.request("submit-message", message_id, **more)

    async def regenerate(self, message_id: str | None = None, **more: Any) -> list[dict[str, Any]]:
        place = len(self.messages) - 1 if message_id is None else self._place(message_id)
        del self.messages[place + (self.messages[place]["role"] == "user") :]
        return await self.request("regenerate-message", message_id, **more)

    async def go_on(self, **more: Any) -> list[dict[str, Any]]:
        """Sends what it does once its last message is complete."""
        return await self.request("submit-message", self.last["id"], **more)

    async def request(self, trigger: str, message_id: str | None, **more: Any) -> list[dict[str, Any]]:
        body = {"id": self.id, "messages": self.messages, "trigger": trigger, **self._body, **more}
        if message_id is not None:
            body["messageId"] = message_id
        headers = body.pop("headers", {})
        headers = {"Content-Type": "application/json", **headers}
        self.answer = await self._client.post(CHAT, content=json.dumps(body), headers=headers)
        return self._read(self.answer, is_replay=False)

    async def resume(self) -> bool:
        self.answer = await self._client.get(f"{CHAT}/{self.id}/stream")
        if self.answer.status_code == 204:
            return False
        self._read(self.answer, is_replay=True)
        return True

    async def load(self) -> list[dict[str, Any]]:
        answer = await self._client.get(f"{CHAT}/{self.id}")
        assert answer.status_code == 200, answer.text
        self.messages = answer.json()["messages"]
        return self.messages

    def approve(self, approved: bool = True, reason: str | None = None) -> None:
        [call] = [call for call in self.calls if call["state"] == "approval-requested"]
        call["state"] = "approval-responded"
        call["approval"] |= {"approved": approved} | ({"reason": reason} if reason else {})

    def give(self, *outputs: Any) -> None:
        waiting = [call for call in self.calls if call["state"] == "input-available" and "providerExecuted" not in call]
        for call, output in zip(waiting, outputs, strict=True):
            call |= {"state": "output-available", "output": output}

    def _place(self, message_id: str) -> int:
        return [message["id"] for message in self.messages].index(message_id)

    def _read(self, answer: httpx2.Response, *, is_replay: bool) -> list[dict[str, Any]]:
        self.error, self.chunks = None, []
        if answer.status_code != 200:
            self.error = answer.text
            return []
        self.chunks = chunks_of(answer)
        if is_replay and self.last["id"] == self.chunks[0]["messageId"]:
            self.messages.pop()
        if self.last["role"] != "assistant":
            self.messages.append({"role": "assistant", "parts": []})
        texts: dict[str, dict[str, Any]] = {}
        for chunk in self.chunks:
            self._add(chunk, texts)
        return self.chunks

    def _add(self, chunk: dict[str, Any], texts: dict[str, dict[str, Any]]) -> None:
        assert self.error is None, f"after the error came {chunk}"
        message, parts, kind = self.last, self.last["parts"], chunk["type"]
        message["metadata"] = {**message.get("metadata", {}), **chunk.get("messageMetadata", {})}
        match kind:
            case "start":
                message["id"] = chunk["messageId"]
            case "start-step":
                parts.append({"type": "step-start"})
            case "reset-step":
                texts.clear()
                while parts[-1]["type"] != "step-start":
                    parts.pop()
            case "text-start" | "reasoning-start":
                texts[chunk["id"]] = {"type": kind.removesuffix("-start"), "text": "", "state": "streaming"}
                parts.append(texts[chunk["id"]])
            case "text-delta" | "reasoning-delta":
                texts[chunk["id"]]["text"] += chunk["delta"]
            case "text-end" | "reasoning-end":
                texts.pop(chunk["id"])["state"] = "done"
            case "data-output":
                parts.append(chunk)
            case "tool-input-available":
                name = chunk.pop("toolName")
                assert chunk["toolCallId"] not in [call["toolCallId"] for call in self.calls], "it is known already"
                is_dynamic = chunk.pop("dynamic", False)
                named = {"type": "dynamic-tool", "toolName": name} if is_dynamic else {"type": f"tool-{name}"}
                parts.append({**chunk, **named, "state": "input-available"})
            case "error":
                self.error = chunk["errorText"]
            case "finish-step" | "finish" | "abort" | "message-metadata":
                pass
            case _:
                self._change_call(chunk)

    def _change_call(self, chunk: dict[str, Any]) -> None:
        id = chunk.get("toolCallId") or chunk.get("approvalId")
        [call] = [call for call in self.calls if call["toolCallId"] == id]
        match chunk["type"]:
            case "tool-approval-request":
                call |= {"state": "approval-requested", "approval": {"id": chunk["approvalId"]}}
            case "tool-approval-response":
                given = {name: chunk[name] for name in ("approved", "reason") if name in chunk}
                call["state"], call["approval"] = "approval-responded", {**call["approval"], **given}
            case "tool-output-available":
                call |= {"state": "output-available", "output": chunk["output"]}
            case "tool-output-error":
                call |= {"state": "output-error", "errorText": chunk["errorText"]}
            case "tool-output-denied":
                call["state"] = "output-denied"
            case _:
                raise AssertionError(f"unknown chunk {chunk}")


def text_of(message: dict[str, Any]) -> str:
    return "|".join(part["text"] for part in message["parts"] if part["type"] == "text")
