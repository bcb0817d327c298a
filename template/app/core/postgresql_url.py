"""Reads PostgreSQL's URLs as its own client library, libpq, does, and tells the driver what they ask for."""

import os
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

NO_URL = "this is not a database URL, such as postgresql://user:password@host/name"

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TARGETS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_NOT_WITH_SYSTEM = {"sslcrl", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"}
_OF_DRIVER = {
    *_FILES,
    *_NOT_WITH_SYSTEM,
    "sslmode",
    "sslpassword",
    "target_session_attrs",
    "application_name",
    "options",
}
_OF_SOCKET = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE"),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
}
_NUMBERS = {*_OF_SOCKET, "connect_timeout"}
_WORDS = {
    "sslmode": _MODES,
    "target_session_attrs": _TARGETS,
    "channel_binding": ("disable", "prefer", "require"),
    # The driver does these anyway, and nothing else.
    "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
    "gssencmode": ("disable", "prefer"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
_OLDER = {"ssl": "sslmode", "fallback_application_name": "application_name"}
_LIST = re.compile(r"([^:/]+://(?:[^@/?]*@)?)([^@/?]*,[^@/?]*)(/[^?]*)?(?:\?(.*))?")
"""Matches a URL with several hosts, which SQLAlchemy wants after the `?`."""
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d*))?")


def read_postgresql_url(value: str, root: Path) -> URL:
    """Returns what libpq would understand; several hosts and the folder of a socket are in the query.

    Paths of files are relative to `root`. Raises ValueError with a sentence that quotes nothing secret.
    """
    try:
        url = make_url(_move_hosts(value))
    except (ArgumentError, ValueError):
        raise ValueError(NO_URL) from None
    query = {name: given if isinstance(given, str) else given[-1] for name, given in url.query.items()}
    host, port = query.pop("host", unquote(url.host or "")), query.pop("port", str(url.port or ""))
    is_plain = not ("," in host or host.startswith("/"))
    _check_address(host, port)
    ports = port if not port or "," in port else ",".join([port] * len(host.split(",")))
    address = {"host": host} | ({"port": ports} if port else {})
    return URL.create(
        "postgresql+asyncpg",
        username=query.pop("user", url.username),
        password=query.pop("password", url.password),
        host=host if is_plain and host else None,
        port=int(port) if is_plain and port else None,
        database=query.pop("dbname", url.database),
        query=({} if is_plain else address) | _checked(query, root),
    )


def public(url: URL) -> str:
    """Formats an address without its password and its parameters, some of which are secret."""
    address = {name: value for name, value in url.query.items() if name in ("host", "port")}
    return unquote(url.set(query=address).render_as_string(hide_password=True))


def for_driver(url: URL) -> tuple[URL, dict[str, Any]]:
    """Returns the URL as SQLAlchemy takes it, and the driver's arguments for all other parameters."""
    address = {name: value for name, value in url.query.items() if name in ("host", "port")}
    rest = {name: str(value) for name, value in url.query.items() if name not in {*address, *_OF_SOCKET}}
    arguments: dict[str, Any] = {"timeout": int(rest.pop("connect_timeout", "10")) or None}
    if rest.get("sslrootcert") == "system":
        arguments["ssl"] = _system_context(rest)
    return url.set(query=address), arguments | {"dsn": f"postgresql://?{urlencode(rest, quote_via=quote)}"}


def keep_alive(url: URL, connection: Any) -> None:
    """Sets what the URL says about keep-alives on the socket of a new connection, since the driver cannot."""
    asked = {_OF_SOCKET[name]: int(str(value)) for name, value in url.query.items() if name in _OF_SOCKET}
    line = connection._transport.get_extra_info("socket")
    if not asked or line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with socket.fromfd(line.fileno(), line.family, line.type) as same:  # uvloop's own has no setsockopt
        for (level, name), value in ({_OF_SOCKET["keepalives"]: 1} | asked).items():
            if (option := getattr(socket, name, None)) is not None:  # not every system has each
                same.setsockopt(level, option, value)


def _move_hosts(value: str) -> str:
    """Moves several hosts of a URL behind its `?`."""
    if not (found := _LIST.fullmatch(value)):
        return value
    start, hosts, path, query = found.groups()
    pairs = [_HOST.fullmatch(item) for item in hosts.split(",")]
    names = ",".join(pair[1].strip("[]") for pair in pairs if pair)
    ports = ",".join(pair[2] or "5432" for pair in pairs if pair)
    return f"{start}{path or '/'}?host={names}&port={ports}{f'&{query}' if query else ''}"


def _check_address(host: str, port: str) -> None:
    ports = port.split(",") if port else []
    if len(ports) not in (0, 1, len(host.split(","))):
        raise ValueError("write one port for all hosts, or as many ports as hosts")
    if "@" in host or not all(one.isascii() and one.isdigit() and 0 < int(one) < 65536 for one in ports):
        raise ValueError("host and port are not valid; in a password, write @ as %40, / as %2F and : as %3A")


def _checked(query: Mapping[str, str], root: Path) -> dict[str, str]:
    """Returns the other parameters, with paths that are complete. Raises ValueError."""
    found = {_OLDER.get(name, name): value for name, value in query.items()}
    if query.get("ssl") == "true":
        found["sslmode"] = "require"
    if "pgbouncer" in found:
        raise ValueError("leave out pgbouncer, and set DATABASE_POOLER=true")
    if unknown := found.keys() - {*_WORDS, *_NUMBERS, *_OF_DRIVER}:
        raise ValueError(f"the driver does not know {', '.join(sorted(unknown))}: leave it out")
    for name, value in found.items():
        if name in _WORDS and value not in _WORDS[name]:
            raise ValueError(f"of {name}, the driver knows {', '.join(_WORDS[name])}")
        if name in _NUMBERS and not re.fullmatch(r"\d{1,9}", value):
            raise ValueError(f"{name} must be a whole number")
    if found.get("channel_binding") == "require":
        # The driver cannot bind the channel; the certificate proves in its place who the server is.
        found = {"sslrootcert": "system", **found, "sslmode": "verify-full"}
    found |= _with_complete_paths(found, root)
    _check_certificates(found)
    return {name: value for name, value in found.items() if name in _OF_DRIVER | _NUMBERS}


def _with_complete_paths(query: Mapping[str, str], root: Path) -> dict[str, str]:
    paths = {name: str(root / query[name]) for name in _FILES if query.get(name, "system") != "system"}
    for name, path in paths.items():
        if not os.access(path, os.R_OK):
            raise ValueError(f"{name}: the file {path} cannot be read")
    return paths


def _check_certificates(query: dict[str, str]) -> None:
    """Has the authorities of the system imply `verify-full`, as libpq does. Raises ValueError."""
    mode, authorities = query.get("sslmode", ""), query.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if query.get("sslrootcert") == "system":
        if query.setdefault("sslmode", "verify-full") != "verify-full":
            raise ValueError("sslrootcert=system needs sslmode=verify-full")
        if others := _NOT_WITH_SYSTEM & query.keys():
            raise ValueError(f"sslrootcert=system does not go with {', '.join(sorted(others))}")
    elif mode.startswith("verify") and not authorities and not Path("~/.postgresql/root.crt").expanduser().exists():
        raise ValueError(
            f"sslmode={mode} needs sslrootcert, the file of the authority's certificate, or its word system"
        )


def _system_context(query: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if "sslcert" in query:
        context.load_cert_chain(query["sslcert"], query.get("sslkey"), lambda: query.get("sslpassword", ""))
    return context
