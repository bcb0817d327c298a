from uuid import UUID

from pydantic import Field
from pydantic_settings import BaseSettings

from app.core.database import Database
from app.core.errors import Conflict
from app.models.note import Note
from app.repositories.base import Page
from app.repositories.note import NoteRepository
from app.schemas.note import NoteCreate


class NoteSettings(BaseSettings):
    notes_per_user: int = Field(default=100, ge=1)


class NoteService:
    def __init__(self, database: Database, user_id: UUID) -> None:
        self._database = database
        self._user_id = user_id

    async def create(self, data: NoteCreate) -> Note:
        async with self._database.write() as session:
            notes = NoteRepository(session, self._user_id)
            if await notes.count() >= NoteSettings().notes_per_user:
                raise Conflict("You have reached your limit of notes.")
            return await notes.create(title=data.title)

    async def list(self, limit: int, cursor: UUID | None) -> Page[Note]:
        async with self._database.read() as session:
            return await NoteRepository(session, self._user_id).list(limit, cursor)

    async def get(self, id: UUID) -> Note:
        async with self._database.read() as session:
            return await NoteRepository(session, self._user_id).get(id)
