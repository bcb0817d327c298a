"""Tests how `@tool` turns a function into a tool, and what a call of it returns."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import AfterValidator, Field, SecretStr

from app.core.config import Settings
from app.core.errors import NotFound, SetupError
from app.core.logging import configure_logging
from app.models.tool import Policy
from app.services import tools as package
from app.services.agents.toolbox import Tool, Toolbox, ToolContext, ToolError, ToolSettings, open_tools, registry, tool
from tests.calls import call, context, refused
from tests.conftest import SECRET_KEY

DICE = '''
from app.services.agents.toolbox import tool


@tool
async def planted_roll(sides: int = 6) -> str:
    """Roll a die."""
    return str(sides)
'''


@tool(policy=Policy.ask)
async def book(
    context: ToolContext,
    place: Annotated[str, Field(description="Where to.")],
    nights: int,
    board: Literal["none", "half"] = "none",
    wishes: list[str] | None = None,
) -> str:
    """Book a room
    for a person.

    What follows is for those who read the code.
    """
    return f"{context.idempotency_key}: {place}, {nights}, {board}, {wishes}"


@tool
async def fail(how: str) -> str:
    """Fails in the given way."""
    match how:
        case "tool":
            raise ToolError("The room is taken.")
        case "app":
            raise NotFound("Room", 7)
        case "timeout":
            raise TimeoutError
        case _:
            raise RuntimeError(how)


def _even(number: int) -> int:
    if number % 2:
        raise TypeError("not even")
    return number


@tool
async def halve(number: Annotated[int, AfterValidator(_even)]) -> str:
    """Halves an even number."""
    return str(number // 2)


@tool
async def hang() -> str:
    """Hangs for ever."""
    await asyncio.Event().wait()
    return "never"


@tool
async def repeat(text: str, times: int) -> str:
    """Repeats a text."""
    return text * times


def box(*tools: Tool, **settings: Any) -> Toolbox:
    return Toolbox({one.name: one for one in tools}, ToolSettings(**settings))


def test_a_model_is_told_name_purpose_and_parameters() -> None:
    assert (book.name, book.description, book.policy) == ("book", "Book a room for a person.", Policy.ask)
    assert book.input_schema == {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "Where to."},
            "nights": {"type": "integer"},
            "board": {"type": "string", "enum": ["none", "half"], "default": "none"},
            "wishes": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["place", "nights"],
        "additionalProperties": False,
    }
    assert hang.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert hang.policy is Policy.allow


async def test_what_is_left_out_has_its_default() -> None:
    assert await call(book, place="Rome", nights="2", wishes=["sun"]) == "key: Rome, 2, none, ['sun']"
    assert await call(book, place="Rome", nights=2, board="half", wishes=None) == "key: Rome, 2, half, None"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "place: field required; nights: field required"),
        (" ", "place: field required; nights: field required"),
        ("null", "input should be an object"),
        ("[]", "input should be an object"),
        ('"Rome"', "input should be an object"),
        ("NaN", "input should be an object"),
        ("place=Rome", "invalid JSON: "),
        ("{", "invalid JSON: "),
        ('{"place": "Rome", "nights": 1}}', "invalid JSON: "),
        ("\0", "invalid JSON: "),
        ("[" * 100_000, "invalid JSON: recursion limit exceeded"),
        ('{"place": "\\ud800", "nights": 1}', "invalid JSON: "),
        ('{"place": "\ud800", "nights": 1}', "unable to parse raw data as a unicode string"),
        ('{"place": 1, "nights": 1}', "place: input should be a valid string"),
        ('{"place": "Rome", "nights": 1.5}', "nights: input should be a valid integer"),
        ('{"place": "Rome", "nights": 1, "board": "full"}', "board: input should be 'none' or 'half'"),
        ('{"place": "Rome", "nights": 1, "wishes": [1]}', "wishes: 0: input should be a valid string"),
        ('{"place": "Rome", "nights": 1, "user_id": "me"}', "user_id: extra inputs are not permitted"),
        ('{"place": "Rome", "nights": 1, "context": {}}', "context: extra inputs are not permitted"),
        (json.dumps({"place": "Rome", "nights": 1, "x" * 9_999: 1}), "xxx"),
        (json.dumps({str(n): n for n in range(1_000)}), "place: field required; nights: field required; 0: extra"),
    ],
)
async def test_arguments_of_a_wrong_shape_are_refused_with_a_sentence(arguments: str, reason: str) -> None:
    with pytest.raises(ToolError, match=r"^The arguments are refused: ") as caught:
        await box(book, tool_result_max_characters=1_000).call("book", context(), arguments)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 1_100


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("tool", "The room is taken."),
        ("app", "Room 7 does not exist."),
        ("timeout", "The tool failed."),
        ("a secret", "The tool failed."),
    ],
)
async def test_a_tool_that_fails_is_a_sentence(how: str, sentence: str) -> None:
    assert await refused(fail, how=how) == sentence


async def test_a_validator_that_fails_is_a_sentence() -> None:
    assert await call(halve, number=4) == "2"
    assert await refused(halve, number=3) == "The tool failed."


@pytest.fixture
def _logs() -> None:
    configure_logging(Settings(secret_key=SecretStr(SECRET_KEY)))


@pytest.mark.usefixtures("_logs")
async def test_what_nobody_expected_is_logged_without_what_the_model_wrote(caplog: pytest.LogCaptureFixture) -> None:
    await refused(fail, how="a secret")
    [record] = [record for record in caplog.records if record.name == "app.tools"]
    event = cast("dict[str, Any]", record.msg)
    assert (event["tool"], event["error"]) == ("fail", "RuntimeError")
    assert Path(__file__).name in event["where"]
    assert "a secret" not in str(event)


@pytest.mark.parametrize(
    "parts",
    [
        ("async def {}() -> str: ...", ""),
        ("def {}() -> str:", '"""Do it."""'),
        ("async def {}():", '"""Do it."""'),
        ("async def {}() -> int:", '"""Do it."""'),
        ("async def {}(x) -> str:", '"""Do it."""'),
        ("async def {}(*x: int) -> str:", '"""Do it."""'),
        ("async def {}(**x: int) -> str:", '"""Do it."""'),
        ("async def {}(x: int, /) -> str:", '"""Do it."""'),
        ("async def übersetzen() -> str:", '"""Do it."""'),
        (f"async def {'x' * 65}() -> str:", '"""Do it."""'),
    ],
)
def test_what_no_model_could_call_is_no_tool(parts: tuple[str, str]) -> None:
    made: dict[str, Any] = {}
    exec("\n    ".join(parts).format("do"), made)  # noqa: S102
    function = list(made.values())[-1]
    with pytest.raises(SetupError, match=function.__name__):
        tool(function)


async def test_a_tool_has_so_much_time() -> None:
    with pytest.raises(ToolError, match=r"^The tool was stopped after 0\.01 seconds\.$"):
        await box(hang, tool_timeout_seconds=0.01).call("hang", context(), "")
    assert await box(repeat, tool_timeout_seconds=0).call("repeat", context(), '{"text": "a", "times": 2}') == "aa"


@pytest.mark.parametrize(
    ("limit", "text", "told"),
    [
        (4, "four", "four"),
        (3, "four", "fou\n[The rest is left out.]"),
        (0, "four" * 9, "four" * 9),
        (9, "a\0b", "a\N{REPLACEMENT CHARACTER}b"),
    ],
)
async def test_a_model_is_told_so_much_and_only_text(limit: int, text: str, told: str) -> None:
    arguments = json.dumps({"text": text, "times": 1})
    assert await box(repeat, tool_result_max_characters=limit).call("repeat", context(), arguments) == told


async def test_half_a_character_is_told_as_a_question_mark() -> None:
    @tool
    async def cut() -> str:
        """Cuts a character in two."""
        return "\ud83e"

    assert await box(cut).call("cut", context(), "") == "?"


async def test_a_tool_that_is_not_there() -> None:
    with pytest.raises(ToolError, match=r"^There is no tool named rm\.$"):
        await box(book).call("rm", context(), "{}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adds a folder in which tools are looked for."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    for name in ("planted_dice", "planted_cheat"):
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
    return tmp_path


async def test_a_file_with_a_function_is_a_tool(folder: Path) -> None:
    before = set(registry())
    (folder / "planted_dice.py").write_text(DICE)
    tools = open_tools(ToolSettings())
    assert tools.tools.keys() - before == {"planted_roll"}
    assert await tools.call("planted_roll", context(), '{"sides": 20}') == "20"


def test_a_name_is_taken_once(folder: Path) -> None:
    (folder / "planted_dice.py").write_text(DICE)
    (folder / "planted_cheat.py").write_text(DICE)
    with pytest.raises(SetupError, match="Two tools are named planted_roll"):
        registry()


def test_a_tool_that_another_module_imports_is_one(folder: Path) -> None:
    (folder / "planted_dice.py").write_text(DICE)
    (folder / "planted_cheat.py").write_text("from app.services.tools.planted_dice import planted_roll\n")
    assert "planted_roll" in registry()
