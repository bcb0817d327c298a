import json
import logging
import re
from collections.abc import Generator

import pytest
import structlog

from app.core.config import Settings
from app.core.logging import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def configure(**values: str) -> None:
    configure_logging(Settings.model_validate({"secret_key": "x" * 32, **values}))


def test_every_logger_speaks_json_outside_local(capsys: pytest.CaptureFixture[str]) -> None:
    configure(environment="production")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.stdlib.get_logger("app.test").warning("ours", answer=42)
    logging.getLogger("uvicorn.error").info("theirs")
    structlog.contextvars.clear_contextvars()
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["answer"], ours["request_id"], ours["level"]) == ("ours", 42, "r-1", "warning")
    assert (theirs["event"], theirs["logger"]) == ("theirs", "uvicorn.error")


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="json")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        structlog.stdlib.get_logger("app.test").exception("unexpected")
    [line] = capsys.readouterr().err.splitlines()
    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_a_person_reads_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    configure(environment="local")
    structlog.stdlib.get_logger("app.test").info("hello", answer=42)
    assert "answer=42" in capsys.readouterr().err


def test_a_console_obeys_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure(environment="local")
    try:
        raise RuntimeError("a \x1b]0;title\x07broken one")
    except RuntimeError:
        text = "e\x1b[2Ji\u202eght\N{NO-BREAK SPACE}👨\u200d👧"
        structlog.stdlib.get_logger("app.test").exception("hello", text=text)
    printed = capsys.readouterr().err
    assert re.search("text='?eight\N{NO-BREAK SPACE}👨\u200d👧", printed)
    assert "RuntimeError: a broken one" in printed
    assert "\x1b" not in printed


def test_the_level_is_a_setting_and_http_clients_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_level="INFO")
    structlog.stdlib.get_logger("app.test").debug("hidden")
    logging.getLogger("httpx2").info("HTTP Request: POST https://provider.example/?key=hunter2")
    assert capsys.readouterr().err == ""
