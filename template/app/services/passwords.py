import structlog

from app.core.database import Database
from app.core.errors import Invalid
from app.core.security import Passwords
from app.repositories.credential import EmailTokenRepository, SessionRepository
from app.repositories.user import Principal, UserRepository
from app.schemas.user import PasswordChange

log = structlog.stdlib.get_logger("app.security")


class WrongPassword(Invalid):
    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class PasswordService:
    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def change(self, user: Principal, data: PasswordChange) -> None:
        """Ends the person's other sessions. Raises WrongPassword."""
        async with self._database.read() as session:
            known = (await UserRepository(session).get(user.id)).hashed_password
        if not await self._passwords.verify(data.current_password, known):
            log.warning("password not changed", user_id=str(user.id))
            raise WrongPassword
        hashed = await self._passwords.hash(data.new_password)
        async with self._database.write() as session:
            users = UserRepository(session)
            current = await users.get(user.id, lock=True)
            if current.hashed_password != known:  # by another request meanwhile
                raise WrongPassword
            await users.update(current, {"hashed_password": hashed})
            await SessionRepository(session, user.id).end_all(but=user.credential_id)
            await EmailTokenRepository(session, user.id).void()
        log.info("password changed", user_id=str(user.id))
