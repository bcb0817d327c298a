"""Reads settings and arguments for several commands. Like all commands, it imports slow modules only when used."""

from typing import TYPE_CHECKING, Any, TypeVar

from app.core.errors import SetupError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.core.config import Settings

B = TypeVar("B", bound="BaseModel")


def load_settings() -> "Settings":
    """Returns the settings. Raises SetupError when one of them is wrong."""
    from app.core.config import Settings, load_environment, read_settings

    load_environment()
    return read_settings(Settings)


def validate(kind: type[B], **values: Any) -> B:
    """Validates what was typed by the rules of the API. Raises SetupError."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        raise SetupError(" ".join(_sentence(item["loc"], item["msg"]) for item in error.errors())) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    return f"{location[0]}: {message.removeprefix('Value error, ').rstrip('.')}."
