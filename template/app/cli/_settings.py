"""What several commands begin with. Like every command, it imports what is slow to import only when it is used."""

from typing import TYPE_CHECKING, Any, TypeVar

from app.core.errors import SetupError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.core.config import Settings

B = TypeVar("B", bound="BaseModel")


def configured() -> "Settings":
    """Raises SetupError when a setting is wrong."""
    from app.core.config import Settings, load_environment, read_settings

    load_environment()
    return read_settings(Settings)


def validated(kind: type[B], **values: Any) -> B:
    """What was typed, by the rules of the API. Raises SetupError."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        raise SetupError(" ".join(_sentence(item["loc"], item["msg"]) for item in error.errors())) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    return f"{location[0]}: {message.removeprefix('Value error, ').rstrip('.')}."
