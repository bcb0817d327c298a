from app.schemas.base import Read
from app.schemas.user import UserRead


class InfoRead(Read):
    name: str
    version: str
    features: list[str]
    limits: dict[str, int]
    user: UserRead | None
    """Who is signed in, if anyone."""
