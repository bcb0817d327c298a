"""Runs Alembic on real databases, through the project's alembic/env.py."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.core.config import Settings
from app.core.database import open_database
from app.models.base import Base
from tests.conftest import ROOT, SECRET_KEY

T = TypeVar("T")


def settings_for(url: str) -> Settings:
    return Settings.model_validate({"secret_key": SECRET_KEY, "database_url": url})


@pytest.fixture
def settings(empty_database_url: str) -> Settings:
    return settings_for(empty_database_url)


def alembic_for(settings: Settings, folder: Path = ROOT, **attributes: bool) -> Config:
    return Config(folder / "alembic.ini", attributes={"settings": settings, **attributes})


@pytest.fixture
def alembic(settings: Settings) -> Config:
    return alembic_for(settings)


def ask(settings: Settings, question: Callable[[sa.Connection], T]) -> T:
    async def answer() -> T:
        async with open_database(settings) as database, database.engine.begin() as connection:
            return await connection.run_sync(question)

    return asyncio.run(answer())


def tables(settings: Settings) -> set[str]:
    return ask(settings, lambda connection: set(sa.inspect(connection).get_table_names()))


def test_up_and_down_and_up_again(alembic: Config, settings: Settings) -> None:
    command.upgrade(alembic, "heads")
    assert tables(settings) >= {*Base.metadata.tables, "alembic_version"}
    command.downgrade(alembic, "base")
    assert tables(settings) == {"alembic_version"}
    command.upgrade(alembic, "heads")
    command.check(alembic)


def test_every_branch_has_one_newest_revision() -> None:
    """Fails where two revisions follow the same one; join them with `alembic merge`."""
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    newest = [label for head in script.get_revisions(script.get_heads()) for label in head.branch_labels]
    assert sorted(newest) == sorted(set(newest))
