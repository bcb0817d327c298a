from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import Column, Table

from app.core.database import Database
from app.models.user import User
from app.repositories.credential import ApiKeyRepository, SessionRepository
from app.repositories.personal_data import Link, PersonalDataRepository, Row, grouped, links, personal_tables
from app.repositories.principal import Principal
from app.repositories.user import UserRepository
from app.schemas.base import changed
from app.schemas.user import UserUpdate
from app.services.accounts.users import LastSuperuser

BATCH = 200

_rows = TypeAdapter(Sequence[dict[str, Any]], config=ConfigDict(ser_json_bytes="base64"))

log = structlog.stdlib.get_logger("app.security")


class AccountService:
    """Lets people change, export and delete their own account."""

    def __init__(self, database: Database, user: Principal) -> None:
        self._database = database
        self._user = user

    async def update(self, data: UserUpdate) -> User:
        async with self._database.write(self._user.id) as session:
            users = UserRepository(session)
            return await users.update(await users.get(self._user.id, lock=True), changed(data))

    async def export(self) -> AsyncIterator[bytes]:
        """Yields a JSON object with a list for each table, page by page: no connection waits for the client."""
        log.info("account exported", user_id=str(self._user.id))
        start = b"{"
        for table in personal_tables():
            yield start + b'"%s":[' % table.name.encode()
            separator = b""
            async for page in self._pages(table):
                yield separator + _rows.dump_json(page)[1:-1]
                separator = b","
            start = b"],"
        yield b"]}"

    async def delete(self) -> None:
        """Deletes the account and all rows that refer to it. Raises LastSuperuser.

        The rows are deleted in batches, so that nobody waits long for a large account. Should the process die
        meanwhile, the owner can log in again and delete the rest.
        """
        await self._leave()
        for table in reversed(personal_tables()[1:]):
            while await self._delete_some(table) == PersonalDataRepository.deleted_at_once:
                pass
        async with self._database.write(self._user.id) as session:
            users = UserRepository(session)
            if user := await users.find(self._user.id, lock=True):
                await users.delete(user)
        log.info("account deleted", user_id=str(self._user.id))

    async def _leave(self) -> None:
        """Ends all sessions, API keys and superuser rights before anything is deleted. Raises LastSuperuser."""
        async with self._database.write(self._user.id) as session:
            users = UserRepository(session)
            if await users.lock_superusers() == [self._user.id]:
                raise LastSuperuser
            await users.update(await users.get(self._user.id, lock=True), {"is_superuser": False})
            await SessionRepository(session, self._user.id).end_all()
            await ApiKeyRepository(session, self._user.id).delete_all()

    async def _delete_some(self, table: Table) -> int:
        """Deletes a batch of rows; locks the account first, as every transaction does that writes its rows."""
        async with self._database.write(self._user.id) as session:
            await UserRepository(session).find(self._user.id, lock=True)
            return await PersonalDataRepository(session, self._user.id).delete_some(table)

    async def _pages(self, table: Table, only: Column[Any] | None = None) -> AsyncIterator[Sequence[Row]]:
        """Yields rows grouped by the rows that they refer to, so that the last page is found as fast as the first."""
        for link in links(table):
            async for owners in self._owners(link):
                last = None
                while page := await self._rows(link, owners, last, only):
                    yield page
                    if len(owners) > 1 or len(page) < BATCH:
                        break
                    last = page[-1]

    async def _owners(self, link: Link) -> AsyncIterator[Sequence[Any]]:
        """Yields as many owners at a time as have the rows of one page."""
        if link.to.table.name == User.__tablename__:
            yield [self._user.id]
            return
        async for page in self._pages(link.to.table, link.to):
            async with self._database.read() as session:
                owners = [row[link.to.name] for row in page]
                counts = await PersonalDataRepository(session, self._user.id).counts(link, owners)
            for group in grouped(counts, BATCH):
                yield group

    async def _rows(
        self, link: Link, owners: Sequence[Any], after: Row | None, only: Column[Any] | None
    ) -> Sequence[Row]:
        async with self._database.read() as session:
            return await PersonalDataRepository(session, self._user.id).rows(link, owners, BATCH, after, only)
