"""Defines what can go wrong and who can act on it. `api/errors.py` turns an `AppError` into a problem document."""

from collections.abc import Mapping
from typing import ClassVar


class SetupError(Exception):
    """Tells the person who runs the project what to do; the message is one sentence that says it."""


class AppError(Exception):
    """Reports a failure that a client can cause or act on; the message is shown to it.

    `code` is the stable, machine-readable name of the failure.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    field: str | None = None
    """Names the field of the request to which the message refers, if it refers to one."""

    @property
    def headers(self) -> Mapping[str, str]:
        return {}


class NotFound(AppError):
    status, code = 404, "not_found"

    def __init__(self, kind: str, id: object) -> None:
        super().__init__(f"{kind} {id} does not exist.")


class Invalid(AppError):
    """Refuses a well-formed request because of a rule that the schema cannot express."""

    status, code = 422, "invalid"


class Conflict(AppError):
    status, code = 409, "conflict"


class Unauthenticated(AppError):
    status, code = 401, "unauthenticated"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class AccountGone(Unauthenticated):
    """Reports that the account was deleted after the request had been authenticated."""

    def __init__(self) -> None:
        super().__init__("This account does not exist any more.")


class BudgetExhausted(AppError):
    """Refuses a request that exceeds what is left of the user's budget, which renews in `seconds`."""

    status, code = 402, "budget_exhausted"

    def __init__(self, sentence: str, seconds: int) -> None:
        super().__init__(sentence)
        self._seconds = seconds

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self._seconds)}


class SessionRequired(AppError):
    """Refuses an API key where only a person who has logged in may act."""

    status, code = 403, "session_required"


class MissingScope(AppError):
    """Refuses an API key that was made without the scope which the request needs."""

    status, code = 403, "missing_scope"


class EmailNotVerified(AppError):
    status, code = 403, "email_not_verified"


class Forbidden(AppError):
    """Refuses a caller who is known, but may not do this."""

    status, code = 403, "forbidden"


class Busy(AppError):
    status, code = 503, "busy"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "5"}
