"""Tests that the OpenAPI document describes fields as the schemas' docstrings do."""

from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.core.config import Settings
from app.main import create_app
from tests.conftest import SECRET_KEY


def fields(name: str) -> dict[str, Any]:
    app: FastAPI = create_app(Settings(secret_key=SecretStr(SECRET_KEY)))
    return app.openapi()["components"]["schemas"][name]["properties"]


@pytest.mark.parametrize(
    ("name", "field", "text"),
    [
        ("ApiKeyCreated", "key", "Shows the whole key, which is not shown again."),
        ("ApiKeyCreated", "start", "Shows how the key begins."),
        ("Tokens", "expires_in", "Gives the lifetime of the access token in seconds."),
        ("UsageDay", "characters", "Counts characters that were read aloud."),
        ("UsageReport", "days", "Lists the newest day first; days without usage are left out."),
    ],
)
def test_a_field_is_described_by_its_docstring(name: str, field: str, text: str) -> None:
    assert fields(name)[field]["description"] == text


def test_a_field_without_a_docstring_is_not_described() -> None:
    assert "description" not in fields("UsageDay")["model"]
