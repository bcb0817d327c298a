"""What clients send through any WebSocket."""

from typing import Annotated, Literal

from pydantic import Field

from app.schemas.base import Body, Text

Ref = Annotated[Text, Field(max_length=100)]
"""A client's own name for a frame, which comes back in what answers it."""


class Frame(Body):
    ref: Ref | None = None


class Auth(Frame):
    """The first frame, where the token is no subprotocol; later it puts a newer token in place of the one before."""

    type: Literal["auth"]
    token: Text


class Ping(Frame):
    type: Literal["ping"]
