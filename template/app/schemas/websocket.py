"""Defines the frames that clients send through any WebSocket."""

from typing import Annotated, Literal

from pydantic import Field

from app.schemas.base import Body, Text

Ref = Annotated[Text, Field(max_length=100)]
"""Holds a client's own name for a frame, which is repeated in the frames that answer it."""


class Frame(Body):
    ref: Ref | None = None


class Auth(Frame):
    """Carries the token as the first frame, if no subprotocol did; later it replaces the token by a newer one."""

    type: Literal["auth"]
    token: Text


class Ping(Frame):
    type: Literal["ping"]
