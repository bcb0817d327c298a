from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Body, Text
from app.schemas.speech import AudioFormat, Language, Speed, VoiceName


class AudioMessageCreate(Body):
    """Holds the form fields that are sent along with the audio."""

    conversation_id: UUID | None = None
    model: Annotated[Text, Field(max_length=200)] | None = None
    language: Language | None = None


class ReadingQuery(Body):
    voice: VoiceName | None = None
    format: AudioFormat | None = None
    speed: Speed = 1
