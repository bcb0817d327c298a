from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from app.models.base import now
from app.services.tools import ToolError, tool

Zone = Annotated[str, Field(description="An IANA time zone, such as Europe/Berlin.")]


@tool
async def current_time(zone: Zone = "UTC") -> str:
    """Tell the current date, weekday and time in a time zone."""
    try:
        time = now().astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        raise ToolError("There is no such time zone; use one such as Europe/Berlin or UTC.") from None
    return f"{time:%A} {time.isoformat(timespec='seconds')}"
