"""Measures how long the event loop works without letting anything else run: a router for a project's `app/api/v1/`.

It counts the CPU time of the loop's thread and not elapsed time, since other processes need the machine too.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import thread_time

from fastapi import APIRouter, FastAPI

EACH_SECONDS = 0.002
_longest = 0.0


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    measuring = asyncio.create_task(_measure())
    yield
    measuring.cancel()


router = APIRouter(prefix="/pauses", tags=["pauses"], lifespan=lifespan)


@router.get("")
async def longest() -> float:
    """Returns the longest pause, in seconds, since the last call."""
    global _longest
    found, _longest = _longest, 0.0
    return found


async def _measure() -> None:
    global _longest
    before = thread_time()
    while True:
        await asyncio.sleep(EACH_SECONDS)
        now = thread_time()
        _longest, before = max(_longest, now - before), now
