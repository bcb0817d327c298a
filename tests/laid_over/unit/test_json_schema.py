"""Tests how the answers of models are read, and that no answer and no schema does harm."""

import json
import socket
import time
from typing import Any

import pytest

from app.services.agents.json_schema import MAX_DEPTH, find_error, read_answer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "inner": {}, "number": {"type": "number"}},
    "required": ["city"],
}
ROME = '{"city": "Rome"}'


def nested(depth: int) -> str:
    return f'{{"city": "Rome", "inner": {"[" * depth}{"]" * depth}}}'


@pytest.mark.parametrize(
    "text",
    [
        ROME,
        f"\n {ROME}\n",
        f"```json\n{ROME}\n```",
        f"```\n{ROME}\n```\n",
        f"```JSON {ROME}```",
        f"```{ROME}```",
    ],
)
def test_an_answer_may_stand_in_a_fence(text: str) -> None:
    assert read_answer(SCHEMA, text) == ({"city": "Rome"}, None)


def test_fences_within_an_answer_stay() -> None:
    assert read_answer(SCHEMA, json.dumps({"city": "```json"})) == ({"city": "```json"}, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The answer is not JSON: Expecting value, in line 1, column 1."),
        ("```", "The answer is not JSON: Expecting value, in line 1, column 1."),
        (f"Here it is: {ROME}", "The answer is not JSON: Expecting value, in line 1, column 1."),
        (f"{ROME} I hope that helps.", "The answer is not JSON: Extra data, in line 1, column 18."),
        ('{"city": "Rome"', "The answer is not JSON: Expecting ',' delimiter, in line 1, column 16."),
        (f"[{ROME}]", "The answer is not a JSON object."),
        ("null", "The answer is not a JSON object."),
        ('{"city": "Rome", "city": "Oslo"}', "The answer has an object with the same name twice."),
        ('{"city": "Rome", "number": NaN}', "The answer has the number NaN, which JSON cannot hold."),
        ('{"city": "Rome", "number": -Infinity}', "The answer has the number -Infinity, which JSON cannot hold."),
        ('{"city": "Rome", "number": 1e999}', "The answer has the number 1e999, which JSON cannot hold."),
        (f'{{"city": "Rome", "number": {"9" * 5000}}}', "The answer has a number that is too large."),
        (nested(MAX_DEPTH + 1), f"The answer is nested more than {MAX_DEPTH} levels deep."),
        (nested(100_000), "The answer is nested too deeply."),
        (r'{"city": "\u0000"}', "The answer has the character NUL, or half of a surrogate pair."),
        (r'{"city": "Rome", "\ud800": 1}', "The answer has the character NUL, or half of a surrogate pair."),
        ('{"city": 1}', 'The answer does not fit the output schema at /city: the value is not of type "string".'),
        ("{}", 'The answer does not fit the output schema at /: "city" is a required property.'),
    ],
)
def test_what_is_wrong_with_an_answer_is_one_sentence(text: str, sentence: str) -> None:
    assert read_answer(SCHEMA, text) == ({}, sentence)


def test_what_is_as_deep_as_allowed_is_taken() -> None:
    answer, error = read_answer(SCHEMA, nested(MAX_DEPTH))
    assert (answer["city"], error) == ("Rome", None)


def test_sentences_are_short_and_do_not_repeat_the_answer() -> None:
    secret = "secret" * 1000
    schema = {**SCHEMA, "properties": {"city": {"enum": ["x" * 5000]}}}
    _, error = read_answer(schema, json.dumps({"city": secret}))
    assert error
    assert "secret" not in error
    assert len(error) < 400


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*a){12}$", "(a*)*b", "^(\\w+\\s?)*$"])
def test_patterns_take_time_in_proportion_to_the_text(pattern: str) -> None:
    for schema in (
        {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]},
        {"type": "object", "patternProperties": {pattern: False}},
        {"type": "object", "propertyNames": {"pattern": f"{pattern}|!$"}},
    ):
        assert find_error(schema) is None
        for text in ({"a": "a" * 200_000 + "!"}, {"a" * 200_000 + "!": 1, "a": "!"}):
            began = time.perf_counter()
            read_answer(schema, json.dumps(text))
            assert time.perf_counter() - began < 2


def test_formats_are_not_checked() -> None:
    schema = {"type": "object", "properties": {"a": {"format": "email"}, "b": {"format": "regex"}}}
    assert read_answer(schema, '{"a": "no e-mail", "b": "(("}')[1] is None


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        http = f"http://127.0.0.1:{server.getsockname()[1]}/a.json"
        for place in (http, "file:///etc/hostname", "json-schema:///a"):
            error = find_error({"type": "object", "properties": {"a": {"$ref": place}}})
            assert error
            assert error.startswith("The output schema is not a valid JSON schema at /: ")
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("pattern", ["(?=a)", "(?<!a)b", r"(a)\1", r"((\w{1,200}){1,200}){1,200}", "("])
def test_patterns_that_cannot_be_linear_are_refused(pattern: str) -> None:
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}, {"propertyNames": {"pattern": pattern}}):
        assert "cannot be used: it is malformed, or has look-around" in (find_error({"type": "object", **schema}) or "")
