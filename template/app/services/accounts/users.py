from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from app.core.config import Settings
from app.core.database import Database
from app.core.email_domains import is_reserved
from app.core.errors import AppError, Conflict, Invalid
from app.core.security import Passwords
from app.models.user import User
from app.repositories.base import Page
from app.repositories.credential import EmailTokenRepository, SessionRepository
from app.repositories.principal import Principal
from app.repositories.user import UserRepository, matches
from app.schemas.base import changed
from app.schemas.user import UserAdminUpdate, UserCreate
from app.services.email.messages import AccountEmails

log = structlog.stdlib.get_logger("app.security")


class EmailTaken(Conflict):
    code = "email_taken"


class ReservedDomain(Invalid):
    code = "reserved_domain"

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"Mail from outside does not reach {domain}, a reserved name; use another address. "
            "EMAIL_RESERVED_DOMAINS allows names that your mail server knows."
        )


def check_reachable(settings: Settings, email: str) -> None:
    """Raises ReservedDomain when the address of an account cannot get mail."""
    domain = email.rpartition("@")[2]
    if is_reserved(domain, settings.email_reserved_domains):
        raise ReservedDomain(domain)


class LastSuperuser(Conflict):
    code = "last_superuser"

    def __init__(self) -> None:
        super().__init__("This is the last active superuser; make another one first.")


class RegistrationClosed(AppError):
    status, code = 403, "registration_closed"


class UserService:
    """Manages accounts, for the application and its superusers."""

    def __init__(
        self, settings: Settings, database: Database, passwords: Passwords, emails: AccountEmails | None = None
    ) -> None:
        """Takes `emails` to ask the owners of new accounts to confirm their addresses."""
        self._settings = settings
        self._database = database
        self._passwords = passwords
        self._emails = emails

    async def register(self, data: UserCreate) -> User:
        """Creates an account for anyone, unless registration is closed. Raises RegistrationClosed, and as `create`."""
        if not self._settings.registration_open:
            raise RegistrationClosed("Registration is closed; ask the administrator for an account.")
        return await self.create(data)

    async def create(self, data: UserCreate, *, is_superuser: bool = False, email_verified: bool = False) -> User:
        """Creates an account. Whether it is a superuser is never read from what a client sent.

        Raises EmailTaken, ReservedDomain.
        """
        check_reachable(self._settings, data.email)
        hashed = await self._passwords.hash(data.password, data.email)
        try:
            async with self._database.write() as session:
                user = await UserRepository(session).create(
                    **data.model_dump(exclude={"password"}),
                    hashed_password=hashed,
                    is_superuser=is_superuser,
                    email_verified=email_verified,
                )
                if self._emails:
                    await self._emails.welcome(session, user.id, user.email)
        except IntegrityError:
            raise EmailTaken("A user with this e-mail address exists.") from None
        log.info("account created", user_id=str(user.id), is_superuser=is_superuser)
        return user

    async def list(self, search: str | None, limit: int, cursor: UUID | None) -> Page[User]:
        async with self._database.read() as session:
            return await UserRepository(session).list(limit, cursor, *([matches(search)] if search else []))

    async def get(self, id: UUID) -> User:
        async with self._database.read() as session:
            return await UserRepository(session).get(id)

    async def update(self, id: UUID, data: UserAdminUpdate, by: Principal) -> User:
        """Changes an account; deactivating it ends every session at once. Raises NotFound, LastSuperuser."""
        changes = changed(data)
        async with self._database.write(id) as session:
            users = UserRepository(session)
            superusers = await users.lock_superusers()
            user = await users.update(await users.get(id, lock=True), changes)
            if not (user.is_active and user.is_superuser) and superusers == [user.id]:
                raise LastSuperuser
            if not user.is_active:
                await SessionRepository(session, user.id).end_all()
                await EmailTokenRepository(session, user.id).void()
        log.info("account changed", user_id=str(user.id), by=str(by.id), **changes)
        return user
