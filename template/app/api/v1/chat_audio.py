from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from app.api.errors import problem_responses
from app.api.upload import CEILING, Upload, upload_body, upload_of
from app.api.v1.chat import Chat
from app.api.v1.speech import AUDIO, Speech, audio_response
from app.schemas.chat_audio import AudioMessageCreate, ReadingQuery
from app.schemas.message import MessageCreate, MessageRead
from app.schemas.speech import SynthesisCreate
from app.services.chat.audio import check_readable
from app.services.speech.service import SynthesizedAudio

router = APIRouter(prefix="/chat/messages", tags=["chat"])


async def reading(
    message_id: UUID, query: Annotated[ReadingQuery, Query()], chat: Chat, speech: Speech
) -> AsyncGenerator[SynthesizedAudio]:
    text = check_readable((await chat.find(message_id)).reply.message)
    async with speech.synthesize(SynthesisCreate(text=text, **query.model_dump())) as spoken:
        yield spoken


@router.post(
    "/audio",
    status_code=201,
    max_body_size=CEILING,
    openapi_extra=upload_body(AudioMessageCreate),
    responses=problem_responses(402),
)
async def send_audio(
    upload: Annotated[Upload[AudioMessageCreate], Depends(upload_of(AudioMessageCreate))], chat: Chat, speech: Speech
) -> MessageRead:
    """Transcribes a spoken message, sends the text, waits for the reply and returns it."""
    data = upload.data
    transcript = await speech.transcribe(upload.file, data.language)
    message = MessageCreate(content=transcript.text, conversation_id=data.conversation_id, model=data.model)
    exchange = await chat.send(message)
    return await chat.wait(exchange.reply)


@router.get("/{message_id}/audio", response_class=StreamingResponse, responses=AUDIO | problem_responses(402))
async def read_aloud(spoken: Annotated[SynthesizedAudio, Depends(reading)]) -> StreamingResponse:
    """Reads a reply aloud once it has ended; before that it answers 409 `still_written`."""
    return audio_response(spoken)
