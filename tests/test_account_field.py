"""Tests a field of one's own in the account, added as docs/accounts.md tells: it is stored, changed and read."""

import sys

import pytest
from conftest import Render
from processes import succeed
from releases import change, write
from services import database

COLUMN = "    locale: Mapped[str | None] = mapped_column(sa.String(20))\n"
ASKED = "    locale: Annotated[Text, Field(max_length=20)] | None = None\n"
TEST = """
async def test_a_locale(alice, client):
    body = {"email": "eve@example.com", "password": "a long enough phrase", "locale": "fr"}
    made = await client.post("/api/v1/auth/register", json=body)
    assert (made.status_code, made.json()["locale"]) == (201, "fr")
    assert (await alice.get("/api/v1/users/me")).json()["locale"] is None
    assert (await alice.patch("/api/v1/users/me", json={"locale": "de"})).json()["locale"] == "de"
    assert (await alice.get("/api/v1/users/me")).json()["locale"] == "de"
"""


@pytest.mark.docs
@pytest.mark.slow
def test_a_field_of_ones_own_is_stored_changed_and_read(render: Render) -> None:
    project = render()
    models, schemas, principals = (
        project / "app" / name for name in ("models/user.py", "schemas/user.py", "repositories/principal.py")
    )
    name = r"(?m)^(    full_name: .*\n)"
    change(models, name, rf"\1{COLUMN}")
    change(schemas, r"(class UserCreate\(Body\):\n)", rf"\1{ASKED}")
    change(schemas, r'(class UserUpdate\(Body\):\n    """.*"""\n)', rf"\1\n{ASKED}")
    change(schemas, r"(?m)^(    full_name: str \| None\n)", r"\1    locale: str | None\n")
    change(principals, name, r"\1    locale: str | None\n")
    write(project / "tests/integration/test_locale.py", TEST)
    with database("sqlite") as url:
        for command in (("upgrade",), ("revision", "add locale"), ("upgrade",)):
            succeed(sys.executable, "-m", "app.cli", "db", *command, cwd=project, DATABASE_URL=url, SECRET_KEY="x" * 32)
    told = ("-p", "no:cacheprovider", "--no-cov", "--numprocesses=0")
    files = ("test_locale.py", "test_users.py", "test_sessions.py")
    succeed(sys.executable, "-m", "pytest", *told, *(f"tests/integration/{name}" for name in files), cwd=project)
