from uuid import uuid4

import pytest

from app.core.database import Database
from app.core.errors import NotFound
from app.models.base import now
from app.models.user import User, UserSession
from app.repositories.credential import SessionRepository
from app.repositories.user import UserRepository


async def add_users(database: Database, count: int) -> list[User]:
    async with database.write() as session:
        users = UserRepository(session)
        return [await users.create(email=f"{n}@example.com", hashed_password="x", full_name="x") for n in range(count)]


async def test_only_the_given_fields_are_written_and_none_is_a_value(database: Database) -> None:
    [user] = await add_users(database, 1)
    async with database.write() as session:
        users = UserRepository(session)
        await users.update(await users.get(user.id), {"full_name": None})
    async with database.read() as session:
        found = await UserRepository(session).get(user.id)
    assert (found.full_name, found.email) == (None, "0@example.com")


async def test_a_row_that_is_not_there(database: Database) -> None:
    id = uuid4()
    async with database.read() as session:
        assert await UserRepository(session).find(id) is None
        with pytest.raises(NotFound, match=f"User {id} does not exist"):
            await UserRepository(session).get(id)


async def test_counting_is_bounded_by_what_was_asked(database: Database) -> None:
    await add_users(database, 3)
    async with database.read() as session:
        users = UserRepository(session)
        assert await users.count() == 3
        assert await users.count(User.email == "1@example.com") == 1


async def test_a_page_has_a_cursor_only_when_there_is_more(database: Database) -> None:
    users = await add_users(database, 4)
    async with database.read() as session:
        first = await UserRepository(session).list(2)
        last = await UserRepository(session).list(2, first.next_cursor)
    assert [user.id for user in [*first.items, *last.items]] == [user.id for user in reversed(users)]
    assert (first.next_cursor, last.next_cursor) == (users[2].id, None)


async def test_another_owners_row_does_not_exist(database: Database) -> None:
    mine, theirs = await add_users(database, 2)
    async with database.write() as session:
        row = await SessionRepository(session, theirs.id).create(expires_at=now())
        assert row.user_id == theirs.id
    async with database.read() as session:
        assert await SessionRepository(session, mine.id).find(row.id) is None
        assert await SessionRepository(session, mine.id).count() == 0
        assert (await SessionRepository(session, theirs.id).get(row.id)).expires_at.tzinfo is not None


async def test_what_a_person_owns_goes_with_the_person(database: Database) -> None:
    [user] = await add_users(database, 1)
    async with database.write() as session:
        await SessionRepository(session, user.id).create(expires_at=now())
    async with database.write() as session:
        users = UserRepository(session)
        await users.delete(await users.get(user.id))
    async with database.read() as session:
        assert await SessionRepository(session, user.id).count(UserSession.user_id == user.id) == 0


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    [user] = await add_users(database, 1)
    async with database.write() as session:
        sessions = SessionRepository(session, user.id)
        with pytest.raises(Exception, match="a datetime without a time zone cannot be stored"):
            await sessions.create(expires_at=now().replace(tzinfo=None))
