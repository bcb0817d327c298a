"""Tests transcripts of executions: new ones, and those that go on from stored entries."""

import json

from app.services.agents.transcript import PendingToolCall, Transcript, to_entry
from app.services.ai import AssistantMessage, ToolCall, ToolResult, UserMessage

SAME = ToolCall("provider-id", "add", '{"a": 1}')
"""Occurs twice in one message, since providers may give several calls the same id."""
TWO = AssistantMessage("Let me see.", [SAME, SAME], '{"raw": true}', None)
DONE = AssistantMessage("It is 2.", [], None, "length")


def test_a_question_is_answered() -> None:
    transcript = Transcript("How much?")
    assert (transcript.pending, transcript.answer) == (None, None)
    transcript.add(DONE)
    assert (transcript.messages, transcript.answer) == ([UserMessage("How much?"), DONE], DONE)


def test_every_call_has_a_number_of_its_own() -> None:
    transcript = Transcript("How much?")
    assert transcript.add(TWO) == [PendingToolCall("call_1", SAME), PendingToolCall("call_2", SAME)]
    transcript.add(ToolResult("", "add", "2"))
    assert transcript.pending == PendingToolCall("call_2", SAME)
    transcript.add(ToolResult("", "add", "2"))
    assert transcript.pending is None
    assert transcript.add(TWO)[0].id == "call_3"


def test_what_was_stored_goes_on_where_it_was() -> None:
    entries = [TWO, ToolResult("provider-id", "add", "2")]
    kept = json.loads(json.dumps([to_entry(entry) for entry in entries]))
    transcript = Transcript("How much?", kept)
    assert transcript.messages == [UserMessage("How much?"), *entries]
    assert transcript.pending == PendingToolCall("call_2", SAME)


def test_a_result_belongs_to_the_call_that_waits() -> None:
    transcript = Transcript("How much?", [to_entry(TWO)])
    transcript.add(ToolResult("", "add", "2"))
    assert transcript.messages[-1] == ToolResult("provider-id", "add", "2")
