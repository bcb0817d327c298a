from collections.abc import Sequence
from uuid import UUID

from app.models.agent_note import AgentNote
from app.repositories.base import OwnedRepository, insert


class AgentNoteRepository(OwnedRepository[AgentNote]):
    model = AgentNote

    async def save(self, id: UUID, text: str) -> None:
        """Saves a note once, however often it is called with this id. Raises AccountGone."""
        await self.lock_owner()
        values = {"id": id, "user_id": self._user_id, "text": text}
        await self._session.execute(insert(self._session, AgentNote).values(values).on_conflict_do_nothing())

    async def search(self, words: Sequence[str], limit: int) -> Sequence[AgentNote]:
        """Returns the notes with all of the words, newest first. SQLite ignores the case of ASCII letters only."""
        found = self._rows().where(*(AgentNote.text.icontains(word, autoescape=True) for word in words))
        newest = found.order_by(AgentNote.created_at.desc(), AgentNote.id).limit(limit)
        return (await self._session.scalars(newest)).all()
