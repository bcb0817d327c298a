"""Tests accounts; export and deletion are tried on every table that exists, including those that are added later."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.database import Database
from app.models.base import Base
from app.models.user import User, UserSession
from app.repositories.personal_data import personal_tables
from app.services.accounts import account
from tests.conftest import log_in
from tests.owned.case import names

ME, EXPORT = "/api/v1/users/me", "/api/v1/users/me/export"


@pytest.fixture
def database(app: FastAPI) -> Database:
    return app.state.database


def value(column: sa.Column[Any]) -> Any:
    kind = column.type
    if isinstance(kind, sa.Enum):
        assert kind.enum_class
        return next(iter(kind.enum_class))
    if isinstance(kind, sa.String):
        return f"{column.name}-{uuid4().hex}"[: kind.length]
    if isinstance(kind, sa.Numeric) and kind.scale:
        return Decimal(7).quantize(Decimal(1).scaleb(-kind.scale))
    kinds = {sa.Uuid: uuid4(), sa.Boolean: True, sa.JSON: ["x"], sa.LargeBinary: b"x", sa.Integer: 7}
    kinds |= {sa.Numeric: 7, sa.Float: 7.5}
    return next((found for of, found in kinds.items() if isinstance(kind, of)), datetime.now(UTC))


async def fill(session: AsyncSession, user_id: UUID) -> dict[str, dict[str, Any]]:
    """Inserts a row of the user into every personal table, and returns the values by table."""
    rows: dict[str, dict[str, Any]] = {"users": {"id": user_id}}
    for table in personal_tables()[1:]:
        await add(session, table, rows)
    return {name: row for name, row in rows.items() if name not in names("OF_NOBODY")}


async def add(session: AsyncSession, table: sa.Table, rows: dict[str, dict[str, Any]]) -> None:
    """Inserts a row, after the rows without an owner that it refers to."""
    row = {column.name: value(column) for column in table.columns}
    for key in table.foreign_keys:
        target = key.column.table
        if key.parent.nullable and target.name not in rows:
            row[key.parent.name] = None
            continue
        if target.name not in rows:
            await add(session, target, rows)
        row[key.parent.name] = rows[target.name][key.column.name]
    await session.execute(sa.insert(table).values(row))
    rows[table.name] = row


async def user_id(client: httpx2.AsyncClient) -> UUID:
    return UUID((await client.get(ME)).json()["id"])


def jsonable(found: Any) -> Any:
    if isinstance(found, Enum):
        return found.value
    return found if isinstance(found, str | int | float | list | None) else str(found)


def test_every_table_is_somebodys() -> None:
    personal = {table.name for table in personal_tables()}
    assert personal | names("OF_NOBODY") == set(Base.metadata.tables), "each must refer to users or be in OF_NOBODY"
    assert not personal & names("OF_NOBODY")


def test_what_must_stay_secret_is_marked() -> None:
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if {"hash", "hashed", "password", "secret", "token"} & set(column.name.split("_")):
                assert column.info.get("secret"), f"{table.name}.{column.name}"


async def test_the_export_has_every_table_and_every_column_but_secrets(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    async with database.write() as session:
        await fill(session, await user_id(bob))
        rows = await fill(session, await user_id(alice))
    answer = await alice.get(EXPORT)
    assert answer.headers["content-type"] == "application/json"
    exported = answer.json()
    assert list(exported) == [table.name for table in personal_tables()]
    assert [user["email"] for user in exported["users"]] == ["alice@example.com"]
    for table in personal_tables():
        secret = {column.name for column in table.columns if column.info.get("secret")}
        key = next(iter(table.primary_key.columns)).name
        [found] = [row for row in exported[table.name] if row[key] == str(rows[table.name][key])]
        assert found.keys() == {column.name for column in table.columns} - secret, table.name
        for name, stored in rows[table.name].items():
            if name not in secret and not isinstance(stored, datetime | bytes):
                assert found[name] == jsonable(stored), (table.name, name)
    assert str(await user_id(bob)) not in answer.text


async def test_a_long_export_is_read_in_pieces(alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "BATCH", 2)
    for _ in range(5):
        await log_in(alice, "alice@example.com")
    exported = json.loads((await alice.get(EXPORT)).text)
    assert len({row["id"] for row in exported["sessions"]}) == len(exported["sessions"]) == 6


async def test_deletion_leaves_nothing_in_any_table_and_everything_of_others(
    app: FastAPI, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    await app.state.worker.drain()  # the e-mails of their registrations have rows, too
    async with database.write() as session:
        await fill(session, await user_id(alice))
        await fill(session, await user_id(bob))
    assert (await alice.delete(ME)).status_code == 204
    for table in personal_tables():
        async with database.read() as session:
            left = await session.scalar(sa.select(sa.func.count()).select_from(table))
        assert left == (2 if table.name in {"sessions", "refresh_tokens", "email_tokens"} else 1), table.name


async def test_a_deleted_account_is_out_at_once_and_may_come_back_empty(
    alice: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    body = {"email": "alice@example.com", "password": "another long enough phrase"}
    assert (await client.post("/api/v1/auth/register", json=body)).status_code == 409
    await alice.delete(ME)
    assert (await alice.get(ME)).status_code == 401
    assert (await client.post("/api/v1/auth/register", json=body)).status_code == 201


async def test_the_last_superuser_cannot_leave(alice: httpx2.AsyncClient, database: Database) -> None:
    async with database.write() as session:
        await session.execute(sa.update(User).values(is_superuser=True))
    answer = await alice.delete(ME)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_superuser")
    async with database.read() as session:
        assert await session.scalar(sa.select(sa.func.count(UserSession.id))) == 1


async def test_only_the_name_is_changed_and_may_be_cleared(alice: httpx2.AsyncClient) -> None:
    assert (await alice.patch(ME, json={"full_name": "Alice"})).json()["full_name"] == "Alice"
    assert (await alice.patch(ME, json={})).json()["full_name"] == "Alice"
    assert (await alice.patch(ME, json={"full_name": None})).json()["full_name"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"is_superuser": True},
        {"email": "b@example.com"},
        {"email_verified": True},
        {"full_name": "x" * 201},
    ],
)
async def test_a_change_that_is_refused(alice: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    assert (await alice.patch(ME, json=body)).status_code == 422


async def test_the_length_of_a_text_is_told_in_characters(alice: httpx2.AsyncClient) -> None:
    [error] = (await alice.patch(ME, json={"full_name": "x" * 201})).json()["errors"]
    assert error == {"field": "body.full_name", "message": "Value should have at most 200 characters, not 201"}


async def test_an_api_key_neither_exports_nor_deletes(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["read"]})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    for method, path in (("GET", EXPORT), ("DELETE", ME), ("PATCH", ME)):
        answer = await client.request(method, path, headers=headers, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "session_required"), path
