from sqlalchemy.exc import IntegrityError

from app.core.database import Database
from app.core.errors import Conflict
from app.core.security import Passwords
from app.models.user import User
from app.repositories.user import UserRepository
from app.schemas.user import UserCreate


class EmailTaken(Conflict):
    code = "email_taken"


class UserService:
    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def create(self, data: UserCreate, *, is_superuser: bool = False) -> User:
        """Raises EmailTaken. Whether someone is a superuser is never read from what a client sent."""
        hashed = await self._passwords.hash(data.password)
        try:
            async with self._database.write() as session:
                return await UserRepository(session).create(
                    email=data.email,
                    full_name=data.full_name,
                    hashed_password=hashed,
                    is_superuser=is_superuser,
                )
        except IntegrityError:
            raise EmailTaken("A user with this e-mail address exists.") from None
