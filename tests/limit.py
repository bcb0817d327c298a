"""Serves the least that the same can cost, with bare Starlette and asyncpg, and a model that streams as fast.

`python limit.py reads` (on a project's database, with its SECRET_KEY), `chats` and `model` start a server and print its
port. The last two stream WORDS words, PAUSE seconds apart.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

PIECES = ["One", *[f" word{number}" for number in range(1, int(os.environ.get("WORDS", "20")))]]
PAUSE = float(os.environ.get("PAUSE", "0.05"))
SECRET = os.environ.get("SECRET_KEY", "")
ME = """SELECT id, email, full_name, is_active, is_superuser, email_verified, created_at FROM users WHERE id = $1"""
PAGE = """SELECT m.id, m.conversation_id, m.role, m.content, m.status, m.created_at, m.code,
    m.model, m.input_tokens, m.output_tokens, m.cost, m.rating, m.comment
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = $1 AND c.user_id = $2 ORDER BY m.position DESC LIMIT 51"""
READ = ("id", "conversation_id", "role", "content", "status", "created_at", "code")
USED, RATED = ("model", "input_tokens", "output_tokens", "cost"), ("rating", "comment")
TABLE = "CREATE TABLE IF NOT EXISTS said (id uuid PRIMARY KEY, content text)"
CHUNK = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "fast"}
USAGE = {"prompt_tokens": 5, "completion_tokens": len(PIECES), "total_tokens": 5 + len(PIECES)}


async def pieces() -> AsyncIterator[str]:
    for number, piece in enumerate(PIECES):
        if number:
            await asyncio.sleep(PAUSE)
        yield piece


async def store(request: Request, content: str) -> None:
    async with request.app.state.pool.acquire() as connection:
        await connection.execute("INSERT INTO said VALUES ($1, $2)", uuid4(), content)


async def chat(request: Request) -> StreamingResponse:
    await store(request, (await request.json())["content"])

    async def events() -> AsyncIterator[str]:
        async for piece in pieces():
            yield f"event: message.delta\ndata: {json.dumps({'text': piece})}\n\n"
        await store(request, "".join(PIECES))
        yield f"event: message.completed\ndata: {json.dumps({'message': {'content': ''.join(PIECES)}})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def health(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def me(request: Request) -> JSONResponse:
    async with request.app.state.pool.acquire() as connection:
        row = await connection.fetchrow(ME, somebody(request))
    return JSONResponse(written(row, row.keys()))


async def page(request: Request) -> JSONResponse:
    async with request.app.state.pool.acquire() as connection:
        rows = await connection.fetch(PAGE, UUID(request.path_params["id"]), somebody(request))
    items = [message(row) for row in reversed(rows[:50])]
    return JSONResponse({"items": items, "next_cursor": items[0]["id"] if len(rows) > 50 else None})


def somebody(request: Request) -> UUID:
    """Returns the user's id from an access token of the project."""
    token = request.headers["authorization"].removeprefix("Bearer ")
    return UUID(jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_aud": False})["sub"])


def message(row: asyncpg.Record) -> dict[str, object]:
    usage = written(row, USED) if row["model"] else None
    return {**written(row, READ), "usage": usage, "feedback": written(row, RATED) if row["rating"] else None}


def written(row: asyncpg.Record, names: Iterable[str]) -> dict[str, object]:
    return {name: str(row[name]) if isinstance(row[name], (UUID, datetime, Decimal)) else row[name] for name in names}


async def complete(_request: Request) -> StreamingResponse:
    """Streams an answer as OpenAI's chat completions do."""

    async def chunks() -> AsyncIterator[str]:
        async for piece in pieces():
            yield chunk([{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}])
        yield chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        yield chunk([], usage=USAGE) + "data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


def chunk(choices: list[object], **more: object) -> str:
    return f"data: {json.dumps({**CHUNK, 'choices': choices, **more})}\n\n"


@asynccontextmanager
async def stored(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=15) as app.state.pool:
        async with app.state.pool.acquire() as connection:
            await connection.execute(TABLE)
        yield


@asynccontextmanager
async def read(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=15) as app.state.pool:
        yield


READS = [
    Route("/health", health),
    Route("/api/v1/users/me", me),
    Route("/api/v1/chat/conversations/{id}/messages", page),
]
APPS = {
    "reads": Starlette(routes=READS, lifespan=read),
    "chats": Starlette(routes=[Route("/api/v1/chat/messages/stream", chat, methods=["POST"])], lifespan=stored),
    "model": Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])]),
}


def main() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(APPS[sys.argv[1]], log_level="warning", access_log=False)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
