"""Tests what a started server has imported: what only some requests need is imported with the first of them."""

import subprocess
import sys

from tests.conftest import ROOT, environment

STARTED = """
import asyncio, sys
from app.core.config import Settings, read_settings
from app.main import create_app

async def start():
    app = create_app(read_settings(Settings), is_server=True)
    async with app.router.lifespan_context(app):
        print(*sys.modules)

asyncio.run(start())
"""
LATER = {
    "aiosmtplib",
    "alembic",
    "anthropic",
    "av",
    "boto3",
    "bs4",
    "google",
    "groq",
    "mistralai",
    "openai",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "pydantic_ai",
    "sentry_sdk",
}
"""Lists modules that cost ten to eighty megabytes each, or a second."""


def test_a_start_does_without_what_may_never_be_needed(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTED],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & LATER == set()
