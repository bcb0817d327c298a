"""Tests transcripts of executions: new ones, and those that go on from stored entries."""

import json

from app.services.agents.transcript import Transcript, to_entry
from app.services.ai import AssistantMessage, ToolCall, ToolResult, UserMessage

SAME = ToolCall("provider-id", "add", '{"a": 1}')
"""Occurs twice in one message, since providers may give several calls the same id."""
TWO = AssistantMessage("Let me see.", [SAME, SAME], '{"raw": true}', None)
DONE = AssistantMessage("It is 2.", [], None, "length")


def waiting(transcript: Transcript) -> list[str]:
    return [pending.id for pending in transcript.pending]


def test_a_question_is_answered() -> None:
    transcript = Transcript("How much?")
    assert (transcript.pending, transcript.answer) == ([], None)
    transcript.add(DONE)
    assert (transcript.messages, transcript.answer) == ([UserMessage("How much?"), DONE], DONE)


def test_every_call_has_a_number_of_its_own() -> None:
    transcript = Transcript("How much?")
    assert [(pending.id, pending.call) for pending in transcript.add(TWO)] == [("call_1", SAME), ("call_2", SAME)]
    transcript.add(ToolResult("", "add", "2"))
    assert waiting(transcript) == ["call_2"]
    transcript.add(ToolResult("", "add", "2"))
    assert waiting(transcript) == []
    assert transcript.add(TWO)[0].id == "call_3"


def test_what_was_stored_goes_on_where_it_was() -> None:
    entries = [TWO, ToolResult("provider-id", "add", "2")]
    kept = json.loads(json.dumps([to_entry(entry) for entry in entries]))
    transcript = Transcript("How much?", kept)
    assert transcript.messages == [UserMessage("How much?"), *entries]
    assert waiting(transcript) == ["call_2"]


def test_a_result_belongs_to_the_call_that_waits() -> None:
    transcript = Transcript("How much?", [to_entry(TWO)])
    transcript.add(ToolResult("", "add", "2"))
    assert transcript.messages[-1] == ToolResult("provider-id", "add", "2")


def test_calls_of_a_client_come_last_and_results_in_the_order_of_the_calls() -> None:
    mixed = [ToolCall("a", "look", "{}"), ToolCall("b", "add", "{}"), ToolCall("c", "look", "no object")]
    transcript = Transcript("How much?", client_tools={"look"})
    transcript.add(AssistantMessage("", mixed))
    assert waiting(transcript) == ["call_2", "call_3", "call_1"]
    for content in ("of b", "of c", "of a"):
        transcript.add(ToolResult("", "any", content))
    assert [result.content for result in transcript.own if isinstance(result, ToolResult)] == ["of a", "of b", "of c"]
    assert [result.call_id for result in transcript.own if isinstance(result, ToolResult)] == ["a", "b", "c"]
