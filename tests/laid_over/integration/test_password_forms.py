"""Tests that a password is the same however a keyboard composes it, and that hashes of 0.1 still work."""

import asyncio
import json
from pathlib import Path
from unicodedata import normalize

import httpx2
import pytest
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import update

from app.core.config import Settings
from app.core.security import Passwords
from app.models.user import User
from tests.conftest import PASSWORD, bearer, client_for, log_in, running
from tests.integration.conftest import InProcess
from tests.integration.test_passwords import ALICE, CHANGE, REGISTER, Hasher, change, stored_hash, try_log_in
from tests.letterbox import kept, text_of, token_in

CHANGE_EMAIL = "/api/v1/auth/email/change"
FORGOT, RESET = "/api/v1/auth/password/forgot", "/api/v1/auth/password/reset"
ACUTE, BELOW, JOINER = "\N{COMBINING ACUTE ACCENT}", "\N{COMBINING DOT BELOW}", "\N{ZERO WIDTH JOINER}"
ALIKE = [
    (normalize("NFC", "größere Zoë"), normalize("NFD", "größere Zoë")),
    (normalize("NFC", "비밀번호는 길다"), normalize("NFD", "비밀번호는 길다")),
    ("10\N{NO-BREAK SPACE}000\N{IDEOGRAPHIC SPACE}phrases", "10 000 phrases"),
    ("\N{ANGSTROM SIGN}ngstrom unit", "A\N{COMBINING RING ABOVE}ngstrom unit"),
    (f"any order a{ACUTE}{BELOW}", f"any order a{BELOW}{ACUTE}"),
    (normalize("NFC", "ế" * 128), normalize("NFD", "ế" * 128)),
]
"""Lists two spellings of each password; the last one is as long as a password may be."""
APART = [
    ("Große Straße", "große straße"),
    ("ﬁne and long", "fine and long"),
    ("пароль №12", "пароль No12"),
    (f"a family {JOINER.join('👨👩👧')} ❤\N{VARIATION SELECTOR-16}", "a family 👨👩👧 ❤"),
]
"""Lists passwords that look alike, or differ in case, and are two."""
AS_TYPED = [*(pair[::-1] for pair in ALIKE[:2]), ALIKE[2], ALIKE[3]]
"""Lists passwords as they are stored now, behind what was typed and hashed as it is in 0.1."""


@pytest.fixture
def hasher(app: FastAPI) -> Hasher:
    argon2 = app.state.passwords._hasher
    argon2._hasher = counting = Hasher(argon2._hasher)
    return counting


async def register(client: httpx2.AsyncClient, password: str) -> httpx2.Response:
    return await client.post(REGISTER, json={"email": ALICE, "password": password})


async def sign_up(client: httpx2.AsyncClient, password: str) -> None:
    assert (await register(client, password)).status_code == 201
    client.headers.update(bearer((await log_in(client, ALICE, password))["access_token"]))


async def hash_as_typed(app: FastAPI, settings: Settings, password: str) -> None:
    """Stores the hash that 0.1 made, of the text as it was typed."""
    argon2 = Argon2Hasher(time_cost=settings.argon2_time_cost, memory_cost=settings.argon2_memory_kib, parallelism=1)
    async with app.state.database.write() as session:
        await session.execute(update(User).values(hashed_password=PasswordHash((argon2,)).hash(password)))


@pytest.mark.parametrize(("one", "other"), [*ALIKE, *(pair[::-1] for pair in ALIKE)])
async def test_every_spelling_of_a_password_logs_in(client: httpx2.AsyncClient, one: str, other: str) -> None:
    assert (await register(client, one)).status_code == 201
    assert [await try_log_in(client, ALICE, each) for each in (other, one, f"{other}x")] == [200, 200, 401]


@pytest.mark.parametrize(("one", "other"), APART)
async def test_passwords_that_only_look_alike_differ(client: httpx2.AsyncClient, one: str, other: str) -> None:
    assert (await register(client, one)).status_code == 201
    assert [await try_log_in(client, ALICE, each) for each in (other, one)] == [401, 200]


@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_changes_and_resets_take_every_spelling(
    app: FastAPI, client: httpx2.AsyncClient, tmp_path: Path, one: str, other: str
) -> None:
    await sign_up(client, PASSWORD)
    assert (await change(client, PASSWORD, other)).status_code == 204
    asked = await client.post(CHANGE_EMAIL, json={"email": "new@example.com", "password": one})
    assert asked.status_code == 202, asked.text
    assert (await change(client, one, PASSWORD)).status_code == 204
    await client.post(FORGOT, json={"email": ALICE})
    await app.state.worker.drain()
    [letter] = [each for each in kept(tmp_path / "mailbox") if "asked for a new password" in text_of(each)]
    reset = await client.post(RESET, json={"token": token_in(letter), "password": other})
    assert reset.status_code == 204, reset.text
    assert await try_log_in(client, ALICE, one) == 200


@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_the_command_takes_every_spelling(
    in_process: InProcess, settings: Settings, database_url: str, one: str, other: str
) -> None:
    made = ("users", "create", ALICE)
    await asyncio.to_thread(in_process.succeed, *made, typed=f"{other}\n", DATABASE_URL=database_url)
    async with running(settings) as app, client_for(app) as client:
        assert await try_log_in(client, ALICE, one) == 200


@pytest.mark.parametrize("pair", AS_TYPED)
async def test_a_hash_of_the_text_as_typed_works_and_is_replaced(
    app: FastAPI, client: httpx2.AsyncClient, settings: Settings, hasher: Hasher, pair: tuple[str, str]
) -> None:
    typed, stored = pair
    await sign_up(client, PASSWORD)
    await hash_as_typed(app, settings, typed)
    assert await try_log_in(client, ALICE, stored) == 401
    assert await try_log_in(client, ALICE, typed) == 200
    replaced = await stored_hash(app)
    assert await Passwords(settings).verify(stored, replaced)
    before = hasher.calls
    assert [await try_log_in(client, ALICE, each) for each in (stored, typed)] == [200, 200]
    assert hasher.calls == before + 2
    assert await stored_hash(app) == replaced


@pytest.mark.parametrize(("typed", "stored"), AS_TYPED)
async def test_a_hash_of_the_text_as_typed_allows_changes(
    app: FastAPI, client: httpx2.AsyncClient, settings: Settings, typed: str, stored: str
) -> None:
    await sign_up(client, PASSWORD)
    await hash_as_typed(app, settings, typed)
    asked = await client.post(CHANGE_EMAIL, json={"email": "new@example.com", "password": typed})
    assert asked.status_code == 202, asked.text
    assert (await change(client, typed, stored)).status_code == 204
    assert await try_log_in(client, ALICE, typed) == 200


async def test_a_password_of_0_1_with_a_control_still_logs_in(
    app: FastAPI, client: httpx2.AsyncClient, settings: Settings
) -> None:
    await sign_up(client, PASSWORD)
    await hash_as_typed(app, settings, "tab\tand\x7fmore")
    assert await try_log_in(client, ALICE, "tab\tand\x7fmore") == 200
    assert (await change(client, "tab\tand\x7fmore", PASSWORD)).status_code == 204


@pytest.mark.parametrize("password", ["wrong password", "wrong password é", normalize("NFD", "wrong password é")])
async def test_an_unknown_address_costs_what_a_wrong_password_costs(
    client: httpx2.AsyncClient, hasher: Hasher, password: str
) -> None:
    await sign_up(client, PASSWORD)
    costs: set[int] = set()
    for email in (ALICE, "nobody@example.com", "no address"):
        before = hasher.calls
        assert await try_log_in(client, email, password) == 401
        costs.add(hasher.calls - before)
    assert costs == {1 if normalize("NFC", password) == password else 2}


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        (f"ab cde e{ACUTE}", None),
        (f"e{ACUTE}" * 7, "String should have at least 8 characters"),
        ("é" * 129, "String should have at most 128 characters"),
        ("x" * 100_000, "String should have at most 128 characters"),
        ("tab\tin the middle", "the password must not contain control characters"),
        ("escape \x1b[31m and red", "the password must not contain control characters"),
        ("zero \0 byte inside", "the password must not contain control characters"),
        ("next line \x85 of C1", "the password must not contain control characters"),
    ],
)
async def test_limits_count_characters_of_what_is_stored(
    client: httpx2.AsyncClient, password: str, sentence: str | None
) -> None:
    answer = await register(client, password)
    assert answer.status_code == (422 if sentence else 201)
    assert sentence is None or answer.json()["errors"] == [{"field": "body.password", "message": sentence}]


async def test_a_common_password_is_refused_however_it_is_spelt(client: httpx2.AsyncClient) -> None:
    for password in ("trustno1", "TRUSTNO1", "\N{KELVIN SIGN}awasaki"):
        answer = await register(client, password)
        assert answer.status_code == 422, password
        assert "too common" in answer.text


async def test_a_pile_of_accents_costs_no_time(app: FastAPI, client: httpx2.AsyncClient, hasher: Hasher) -> None:
    """Sends accents in the worst order, of which Python sorts a megabyte in minutes."""
    await sign_up(client, PASSWORD)
    pile = "a" + (ACUTE + BELOW) * 100_000
    async with asyncio.timeout(10):
        answer = await client.post(CHANGE, json={"current_password": pile, "new_password": pile})
        assert answer.status_code == 422
        assert len(json.dumps(answer.json())) < 1_000
        assert (await register(client, pile)).status_code == 422
        assert await try_log_in(client, ALICE, pile[:10_000]) == 401
