from datetime import UTC, datetime, timedelta
from time import time
from uuid import UUID, uuid4

import httpx2
import jwt
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.core import security
from app.core.database import Database
from app.models.user import User
from tests.conftest import PASSWORD, SECRET_KEY

REGISTER, LOGIN, ME, INFO = "/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/users/me", "/api/v1/info"


@pytest.fixture
def database(app: FastAPI) -> Database:
    return app.state.database


async def test_register_log_in_and_read_oneself(client: httpx2.AsyncClient) -> None:
    body = {"email": "Ada@Example.com", "password": PASSWORD, "full_name": "Ada"}
    registered = await client.post(REGISTER, json=body)
    assert registered.status_code == 201
    login = await client.post(LOGIN, data={"username": "ADA@example.com", "password": PASSWORD})
    assert login.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (login.json()["token_type"], login.json()["expires_in"]) == ("bearer", 1800)
    me = await client.get(ME, headers={"Authorization": f"Bearer {login.json()['access_token']}"})
    assert me.json() == registered.json()
    assert me.json() | {"id": "", "created_at": ""} == {
        "id": "",
        "email": "ada@example.com",
        "full_name": "Ada",
        "is_active": True,
        "is_superuser": False,
        "email_verified": False,
        "created_at": "",
    }
    assert UUID(me.json()["id"]).version == 7
    assert datetime.fromisoformat(me.json()["created_at"]).tzinfo is not None


@pytest.mark.parametrize("field", ["is_superuser", "is_active", "role", "id", "email_verified", "hashed_password"])
async def test_nobody_gives_themselves_rights(client: httpx2.AsyncClient, field: str) -> None:
    body = {"email": "a@example.com", "password": PASSWORD, field: True}
    assert (await client.post(REGISTER, json=body)).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"email": "not-an-address"},
        {"email": "a\0@example.com"},
        {"password": "short"},
        {"password": "x" * 129},
        {"full_name": "nul\0"},
        {"full_name": "x" * 201},
        {"email": None},
    ],
)
async def test_a_registration_that_is_refused(client: httpx2.AsyncClient, change: dict[str, object]) -> None:
    body = {"email": "a@example.com", "password": PASSWORD, **change}
    assert (await client.post(REGISTER, json=body)).status_code == 422


async def test_an_address_is_taken_however_it_is_written(client: httpx2.AsyncClient) -> None:
    await client.post(REGISTER, json={"email": "a@example.com", "password": PASSWORD})
    again = await client.post(REGISTER, json={"email": "A@EXAMPLE.com", "password": PASSWORD})
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize("password", ["xyzzy-42", "p" * 128, "пароль-ключ-🔑", " 空白 \u3000 spaces"])
async def test_a_password_of_any_allowed_form_works(client: httpx2.AsyncClient, password: str) -> None:
    await client.post(REGISTER, json={"email": "a@example.com", "password": password})
    login = await client.post(LOGIN, data={"username": "a@example.com", "password": password})
    assert login.status_code == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("alice@example.com", "wrong password"),
        ("nobody@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("a\0b", PASSWORD),
        ("alice@example.com", "x" * 5000),
    ],
)
async def test_a_refused_log_in_never_tells_why(alice: httpx2.AsyncClient, username: str, password: str) -> None:
    answer = await alice.post(LOGIN, data={"username": username, "password": password})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["detail"] == "The e-mail address or the password is wrong."


async def test_a_log_in_without_its_fields(client: httpx2.AsyncClient) -> None:
    assert (await client.post(LOGIN, data={"username": "a@example.com"})).status_code == 422


async def test_without_a_token(client: httpx2.AsyncClient) -> None:
    answer = await client.get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def _claims(**changes: object) -> dict[str, object]:
    later = datetime.now(UTC) + timedelta(minutes=5)
    return {"sub": str(uuid4()), "sid": str(uuid4()), "exp": later, **changes}


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "a.b.c",
        jwt.encode(_claims(), SECRET_KEY, "HS256"),
        jwt.encode(_claims(), "another-key-0123456789-0123456789", "HS256"),
        jwt.encode(_claims(), "x" * 64, "HS512"),
        jwt.encode(_claims(), "", "none"),
        jwt.encode(_claims(exp=1), SECRET_KEY, "HS256"),
        jwt.encode(_claims(sub="not-an-id"), SECRET_KEY, "HS256"),
        jwt.encode({"sub": str(uuid4()), "sid": str(uuid4())}, SECRET_KEY, "HS256"),
    ],
)
async def test_a_token_that_proves_nothing(client: httpx2.AsyncClient, token: str) -> None:
    for path in (ME, INFO):
        assert (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_a_token_of_a_living_session_must_be_signed_by_us_and_expire(alice: httpx2.AsyncClient) -> None:
    token = alice.headers["authorization"].split()[1]
    claims = jwt.decode(token, SECRET_KEY, ["HS256"])
    assert claims["exp"] - claims["iat"] == 1800
    without_end = {name: claim for name, claim in claims.items() if name != "exp"}
    for forged in (
        jwt.encode(without_end, SECRET_KEY, "HS256"),
        jwt.encode(claims | {"exp": claims["iat"] - 1}, SECRET_KEY, "HS256"),
        jwt.encode(claims, "another-key-0123456789-0123456789", "HS256"),
        jwt.encode(claims, SECRET_KEY * 2, "HS512"),
        jwt.encode(claims, "", "none"),
        token[:-2],
        token.rpartition(".")[0] + ".",
    ):
        assert (await alice.get(ME, headers={"Authorization": f"Bearer {forged}"})).status_code == 401
    again = jwt.encode(claims, SECRET_KEY, "HS256")
    assert (await alice.get(ME, headers={"Authorization": f"Bearer {again}"})).status_code == 200


async def test_a_token_may_come_from_a_process_whose_clock_is_ahead(alice: httpx2.AsyncClient) -> None:
    claims = jwt.decode(alice.headers["authorization"].split()[1], SECRET_KEY, ["HS256"])
    ahead = jwt.encode(claims | {"iat": claims["iat"] + 60, "exp": claims["exp"] + 60}, SECRET_KEY, "HS256")
    assert (await alice.get(ME, headers={"Authorization": f"Bearer {ahead}"})).status_code == 200


async def test_a_token_that_was_good_expires(alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await alice.get(ME)).status_code == 200
    monkeypatch.setattr(security, "time", lambda: time() + 1801)
    answer = await alice.get(ME)
    assert (answer.status_code, "has expired" in answer.json()["detail"]) == (401, True)


async def test_a_user_who_was_deactivated(alice: httpx2.AsyncClient, database: Database) -> None:
    async with database.write() as session:
        await session.execute(update(User).values(is_active=False))
    assert (await alice.get(ME)).status_code == 401
    login = await alice.post(LOGIN, data={"username": "alice@example.com", "password": PASSWORD})
    assert login.status_code == 401


async def test_info_is_for_everyone_and_knows_who_is_signed_in(
    client: httpx2.AsyncClient, alice: httpx2.AsyncClient
) -> None:
    anonymous, signed_in = (await client.get(INFO)).json(), (await alice.get(INFO)).json()
    assert (anonymous["user"], signed_in["user"]["email"]) == (None, "alice@example.com")
    assert anonymous["limits"]["body_bytes"] == 1_048_576
    assert anonymous["models"] == ["demo"]
    assert anonymous.keys() == {"name", "version", "features", "limits", "models", "user"}
