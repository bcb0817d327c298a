from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from app.api.deps import CurrentUser, Cursor, DatabaseDep, Limit
from app.models.note import Note
from app.repositories.base import Page
from app.schemas.base import PageRead
from app.schemas.note import NoteCreate, NoteRead
from app.services.notes import NoteService, NoteSettings

router = APIRouter(prefix="/notes", tags=["notes"])


async def note_service(database: DatabaseDep, user: CurrentUser) -> NoteService:
    return NoteService(database, user.id)


Notes = Annotated[NoteService, Depends(note_service)]


@router.post("", status_code=201, response_model=NoteRead)
async def create_note(data: NoteCreate, notes: Notes) -> Note:
    return await notes.create(data)


@router.get("", response_model=PageRead[NoteRead])
async def list_notes(notes: Notes, limit: Limit = 50, cursor: Cursor = None) -> Page[Note]:
    return await notes.list(limit, cursor)


@router.get("/limit")
async def read_limit() -> dict[str, int]:
    return {"notes": NoteSettings().notes_per_user}


@router.get("/{note_id}", response_model=NoteRead)
async def read_note(note_id: UUID, notes: Notes) -> Note:
    return await notes.get(note_id)
