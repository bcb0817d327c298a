"""Decides which text of a conversation may be read aloud."""

from app.core.errors import Conflict, Invalid
from app.models.message import MessageStatus
from app.schemas.message import MessageRead


class ReplyPending(Conflict):
    code = "still_written"


def check_readable(reply: MessageRead) -> str:
    """Returns the text of a reply. Raises ReplyPending while it is pending, and Invalid when it has no text."""
    if reply.status is MessageStatus.pending:
        raise ReplyPending("The reply is still being written; ask again once it has ended.")
    if not reply.content.strip():
        raise Invalid("There is no text in this reply.")
    return reply.content
