"""Recognizes the errors of a database that is lost, full or busy; no other module knows them."""

import re
from importlib import import_module
from sqlite3 import SQLITE_ERROR
from ssl import SSLCertVerificationError

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.config import Settings
from app.core.postgresql_url import public

_UNAVAILABLE = (
    "08",  # the connection broke
    "25006",  # it takes no writes, since it is a standby
    "40",  # a deadlock, or two transactions that conflict
    "53",  # too many connections, no memory, no disk
    "55P03",  # a lock was not free in time
    "57",  # a statement took too long, or the server shuts down or starts
    "58",  # the system below the database fails
)
"""Lists the prefixes of SQLSTATEs after which the same statement may succeed a moment later."""


def driver_errors(url: URL) -> tuple[type[Exception], ...]:
    """Returns the driver's errors that SQLAlchemy does not wrap, such as those while it connects."""
    if url.get_backend_name() == "sqlite":
        return (OSError,)
    asyncpg = import_module("asyncpg")
    return OSError, EOFError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError


def as_database_error(error: Exception) -> OperationalError:
    """Wraps an error of `driver_errors`, so that users of the database have one kind of error to expect."""
    return OperationalError(None, None, error, hide_parameters=True)


def is_unavailable(error: Exception) -> bool:
    """Tells whether the connection broke, none was free, or others hold the locks; a wrong statement does not count."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError)
    state: str = getattr(error.orig, "sqlstate", None) or ""
    if getattr(error.orig, "sqlite_errorcode", None) == SQLITE_ERROR:
        return False
    return (
        state.startswith(_UNAVAILABLE)
        or error.connection_invalidated
        or isinstance(error, InterfaceError | OperationalError)
    )


def describe_unreachable(settings: Settings, error: Exception) -> str:
    """Returns a sentence for whoever can start the database or correct its URL."""
    where, cause = public(settings.database_url), getattr(error, "orig", error)
    line = str(cause).split("\n")[0]
    if isinstance(cause, SSLCertVerificationError):
        return (
            f"The certificate of the database {where} is not accepted ({cause.verify_message.rstrip('.')}): "
            "correct the host or sslrootcert in DATABASE_URL."
        )
    if not settings.database_pooler and ("startup parameter" in line or "prepared statement" in line):
        return describe_pooler(settings)
    if "startup parameter" in line:
        return f"The pooler of the database {where} refuses a parameter ({line}): leave it out of DATABASE_URL."
    reason = re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", line).split(": ")[-1].strip("<>") or type(cause).__name__
    return f"The database {where} cannot be used ({reason}): start it, create it or correct DATABASE_URL."


def describe_pooler(settings: Settings) -> str:
    """Returns a sentence for whoever can name the pooler, or go around it."""
    return (
        f"The database {public(settings.database_url)} is behind a connection pooler, such as PgBouncer: "
        "set DATABASE_POOLER=true, or have DATABASE_URL lead to PostgreSQL itself."
    )
