from uuid import UUID

from pydantic import Field

from app.schemas.base import Body, Read, Text


class NoteCreate(Body):
    title: Text = Field(max_length=200)


class NoteRead(Read):
    id: UUID
    title: str
