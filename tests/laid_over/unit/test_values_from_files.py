"""Tests that what comes along with a value, from a file or another program, is no part of it."""

import pytest

from app.core.config import Settings, read_settings

VALUES = {
    "DATABASE_URL": "postgresql+asyncpg://u:secret@h/n",
    "REDIS_URL": "redis://:secret@h:6379/0",
    "SMTP_URL": "smtps://u:secret@h",
    "APP_URL": "https://app.example",
    "ENVIRONMENT": "staging",
    "PORT": "8711",
}


@pytest.mark.parametrize("around", ["{}\n", "\r\n {}\t", '"{}"', " '{}'\n", '" {}"'])
@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_bare(name: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    monkeypatch.setenv(name, around.format(VALUES[name]))
    value = getattr(read_settings(Settings), name.lower())
    shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    text = shown.render_as_string(hide_password=False) if hasattr(shown, "render_as_string") else str(shown)
    assert text == VALUES[name]
