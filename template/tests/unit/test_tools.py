"""Tests the tools of this project that need no database and no network."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from app.models.tool import Policy
from app.services.agents.toolbox import registry
from app.services.tools import clock
from app.services.tools.calculator import ALLOWED, calculate
from app.services.tools.clock import current_time
from tests.calls import call, refused

ASK = {"fetch_page"}
NO_RESULT = "There is no result: a division by zero, no real number, or one that is too large."
UNDEFINED = ["1 / 0", "0 / 0", "1 // 0", "1 % 0", "0 ** 0", "ln(0)", "1 / ln(0)", "sqrt(-1)", "(-8) ** (1 / 3)"]
TOO_LARGE = ["9 ** 9 ** 9 ** 9", "exp(9 ** 9)", "1e9999 * 10", "1e99999", "round(1, 1e9)", "round(1, 0.5)"]
INCOMPLETE = ["", " ", "1 +", "1, 2", "\0", "1\n2", "(" * 230 + "1" + ")" * 230]
OF_PYTHON = ["x", "True", "1j", "'a' * 9", "[1] * 9", "1 < 2", "not 1", "2 ^ 3", "x := 1", "f'{1}'", "(1).real", "abs"]
CALLS = ["__import__('os')", "(lambda: 1)()", "max()", "max(1)", "max(*[1])", "exp(1, 2)", "sqrt(number=4)"]
SCHEMAS = {
    "calculate": {"expression": {"type": "string", "maxLength": 500, "examples": ["2 + 3"]}},
    "current_time": {"zone": {"type": "string", "default": "UTC"}},
    "fetch_page": {"url": {"type": "string", "maxLength": 2_000, "examples": ["https://example.com/"]}},
    "save_note": {"text": {"type": "string", "maxLength": 4_000}},
    "search_notes": {"words": {"type": "string", "maxLength": 200, "default": ""}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_a_model_may_say(name: str) -> None:
    schema = dict(registry()[name].input_schema)
    properties = {key: dict(value) for key, value in schema["properties"].items()}
    assert all(value.pop("description") for value in properties.values())
    assert properties == SCHEMAS[name]
    required = [key for key, value in SCHEMAS[name].items() if "default" not in value]
    assert schema.get("required", []) == required
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)


@pytest.mark.parametrize("name", SCHEMAS)
def test_who_is_asked(name: str) -> None:
    assert registry()[name].policy is (Policy.ask if name in ASK else Policy.allow)


@pytest.mark.parametrize(
    ("zone", "time"),
    [
        ("UTC", "Sunday 2026-03-29T00:59:59+00:00"),
        ("Europe/Berlin", "Sunday 2026-03-29T01:59:59+01:00"),
        ("America/Los_Angeles", "Saturday 2026-03-28T17:59:59-07:00"),
        ("Asia/Kathmandu", "Sunday 2026-03-29T06:44:59+05:45"),
    ],
)
async def test_the_time(zone: str, time: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC))
    assert await call(current_time, zone=zone) == time


@pytest.fixture
def bare_system() -> Iterator[None]:
    """Simulates a machine without time zones of its own, as many container images are."""
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("bare_system")
async def test_the_time_where_tzdata_alone_knows_zones() -> None:
    assert (await call(current_time, zone="Asia/Kathmandu")).endswith("+05:45")


async def test_the_time_without_a_zone() -> None:
    assert (await call(current_time)).endswith("+00:00")


@pytest.mark.parametrize("zone", ["", "Europe", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "x" * 5_000, "a\0"])
async def test_no_time_zone(zone: str) -> None:
    assert await refused(current_time, zone=zone) == "There is no such time zone; use one such as Europe/Berlin or UTC."


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 1", "2"),
        (" 2 * (3 + 4) ", "14"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3 * 3", "1"),
        ("2 / 3", "0.6666666666666666666666666667"),
        ("-0.0", "0"),
        ("1e2", "100"),
        ("1_000.50", "1000.5"),
        ("0x1f", "31"),
        ("12345678901234567890.123456789 * 1", "12345678901234567890.12345679"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("2 ** 300", "2.03703597633448608626844568840937816105146839366593625063614E+90"),
        ("2 ** -1", "0.5"),
        ("2 ** 3 ** 2", "512"),
        ("9 ** 0.5", "3"),
        ("-7 // 3", "-3"),
        ("-7 % 3", "2"),
        ("7 % -3", "-2"),
        ("-6 % 3", "0"),
        ("+5 - -5", "10"),
        ("round(2.675, 2)", "2.68"),
        ("round(2.5)", "3"),
        ("round(1234, -2)", "1200"),
        ("max(1, 2, 3) - min(1, 2)", "2"),
        ("abs(-1.5)", "1.5"),
        ("sqrt(2)", "1.414213562373095048801688724"),
        ("ln(e ** 2)", "2"),
        ("log10(1000)", "3"),
        ("pi", "3.141592653589793238462643383"),
        ("-" * 400 + "1", "1"),
    ],
)
async def test_what_is_calculated(expression: str, result: str) -> None:
    assert await call(calculate, expression=expression) == result


@pytest.mark.parametrize("expression", [*UNDEFINED, *TOO_LARGE])
async def test_what_has_no_result(expression: str) -> None:
    assert await refused(calculate, expression=expression) == NO_RESULT


@pytest.mark.parametrize("expression", [*INCOMPLETE, *OF_PYTHON, *CALLS])
async def test_what_is_no_arithmetic(expression: str) -> None:
    assert await refused(calculate, expression=expression) == ALLOWED


async def test_what_is_too_long_to_calculate() -> None:
    assert "at most 500 characters" in await refused(calculate, expression="1" * 501)
