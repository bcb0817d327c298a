from app.models.note import Note
from app.repositories.base import OwnedRepository


class NoteRepository(OwnedRepository[Note]):
    model = Note
