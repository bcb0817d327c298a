"""Listens and serves, as `uvicorn.run` does, which cannot listen on both IPv4 and IPv6."""

import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

from app.core.config import Settings
from app.core.errors import SetupError
from app.core.logging import configure_logging
from app.core.shutdown import STOPPING

LAST_WORDS_SECONDS = 3
"""Gives the clients of a stopping server time to read how their streams ended."""

_NOT_HERE = (EADDRNOTAVAIL, EAFNOSUPPORT)
"""Lists the errors of a name's IPv6 address on a machine that has only IPv4."""


class _Server(uvicorn.Server):
    """Says where it serves once it does."""

    url = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _say(self.url)


def listen(host: str, port: int) -> tuple[list[socket.socket], str]:
    """Returns sockets that are bound, and their URL. Raises SetupError, before the slow loading of the application."""
    shown = f"[{host}]" if ":" in host else host
    try:
        listeners = _bound_to_each(host, port)
    except OSError as error:
        raise SetupError(
            f"Cannot listen on {shown}:{port} ({error.strerror}): choose another --host, --port or PORT."
        ) from None
    return listeners, f"http://{shown}:{listeners[0].getsockname()[1]}"


def run_server(
    settings: Settings,
    listeners: list[socket.socket],
    url: str,
    *,
    reload_dir: Path | None = None,
    workers: int = 1,
) -> None:
    """Serves until a signal comes."""
    # uvicorn shuts down, then sends itself the signal again.
    for number in STOPPING:
        signal.signal(number, _end)
    config = uvicorn.Config(
        "app.asgi:developed" if reload_dir else "app.asgi:app",
        factory=reload_dir is not None,
        workers=workers,
        reload=reload_dir is not None,
        reload_dirs=reload_dir and [str(reload_dir)],
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the application reads them itself, if TRUSTED_PROXIES allows it
        http="app.core.server_protocols:HttpProtocol",
        ws="app.core.server_protocols:WebSocketProtocol",
        ws_max_size=settings.socket_max_frame_bytes,
        ws_per_message_deflate=False,  # short texts hardly shrink, and each socket would keep a compressor
        ws_ping_interval=settings.socket_ping_interval,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=ceil(settings.shutdown_grace_seconds) + LAST_WORDS_SECONDS,
    )
    if reload_dir:
        ChangeReload(config, target=uvicorn.Server(config).run, sockets=listeners).run()
    elif workers > 1:
        configure_logging(settings)  # the parent does not load the application, which would
        _say(url)
        supervisor = Multiprocess(config, sockets=listeners)
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            sys.exit(STARTUP_FAILURE)
    else:
        server = _Server(config)
        server.url = url
        server.run(sockets=listeners)


def _bound_to_each(host: str, port: int) -> list[socket.socket]:
    """Binds to each address of a name that this machine has. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners, lacking = list[socket.socket](), OSError()
    for family, _, _, _, address in found:
        try:
            listeners.append(_bound(family, address, alone=len(found) == 1))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            lacking = error
    if not listeners:
        raise lacking
    return listeners


def _bound(family: int, address: Any, *, alone: bool) -> socket.socket:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)  # unless set, `::` hears IPv4, too
        listener.bind(address)
        listener.set_inheritable(True)
        stack.pop_all()
        return listener


def _say(url: str) -> None:
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", url)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exits once: a terminal, `uv run` and a supervisor may each send a signal, and a second would interrupt this."""
    for number in STOPPING:
        signal.signal(number, _ignore)
    sys.exit(0)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Replaces SIG_IGN, with which Python would report a signal that came but was not handled yet as lost."""
