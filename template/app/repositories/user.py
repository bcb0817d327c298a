from uuid import UUID

from sqlalchemy import ColumnElement, or_, select

from app.models.user import User
from app.repositories.base import BaseRepository


class UserRepository(BaseRepository[User]):
    model = User

    async def find_by_email(self, email: str) -> User | None:
        return await self._session.scalar(select(User).where(User.email == email))

    async def lock_superusers(self) -> list[UUID]:
        """Locks the active superusers until the transaction ends, and returns their ids."""
        superusers = select(User.id).where(User.is_superuser, User.is_active).order_by(User.id).with_for_update()
        return list(await self._session.scalars(superusers))


def matches(search: str) -> ColumnElement[bool]:
    """Matches users by a part of the address or name, in whatever case."""
    return or_(User.email.icontains(search, autoescape=True), User.full_name.icontains(search, autoescape=True))
