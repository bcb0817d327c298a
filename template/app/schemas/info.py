from app.schemas.base import Read
from app.schemas.user import UserRead


class InfoRead(Read):
    name: str
    version: str
    features: list[str]
    limits: dict[str, int]
    models: list[str]
    """Lists the models that may be asked for. The first one is the default."""
    user: UserRead | None
    """Shows who is signed in; null if nobody is, or if the API key lacks the scope `read`."""
