from app.schemas.base import Read
from app.schemas.user import UserRead


class InfoRead(Read):
    name: str
    version: str
    features: list[str]
    limits: dict[str, int]
    models: list[str]
    """Those that may be asked for. The first answers when none is."""
    user: UserRead | None
    """Who is signed in, if anyone, and as far as an API key may read it."""
