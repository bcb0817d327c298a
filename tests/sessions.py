"""Serves a project in a thread of its own, for tests that are not asynchronous, such as those in a browser."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

from servers import Project, signed_in
from test_clients import agents


@contextmanager
def served(project: Project, **settings: str) -> Iterator[str]:
    """Serves a project in which somebody has two agents, and yields its address."""
    loop, found, done = asyncio.new_event_loop(), Queue[str | BaseException](), asyncio.Event()

    async def serve() -> None:
        try:
            async with project.serve(**settings) as server:
                async with signed_in(server.url) as client:
                    await agents(client, server.url)
                found.put(server.url)
                await done.wait()
        except BaseException as error:
            found.put(error)
            raise

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        url = found.get()
        if isinstance(url, BaseException):
            raise url
        yield url
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
