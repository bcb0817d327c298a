"""Searches one user's conversations. A word is a whole one, except in scripts that put no spaces between words."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy import table as describe_table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.models.conversation import Conversation
from app.models.conversation_search import CONVERSATION_SEARCH
from app.models.message import Message, Role
from app.repositories.base import Page
from app.repositories.conversation import ConversationRepository

SNIPPET, BEFORE = 200, 60
"""Limits the characters of a snippet: in all, and before the first word that was found."""
PROBED, WALKED = 10, 100
"""Limits the newest conversations that are looked through one by one: at first, and if one of these has the words."""

_CJK = re.compile(
    "[\u2e80-\u2fff\u3005-\u3007\u3041-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
"""Matches scripts that put no spaces between words, in which every part is found; as in the migration chat_0004."""
_SPACES = str.maketrans(dict.fromkeys(string.punctuation, " "))
_Column = InstrumentedAttribute[UUID]
_Id = UUID | _Column
_ENTRY = CONVERSATION_SEARCH.c
_INDEX = describe_table("chat_search_words", column("rowid", Integer()))
"""Indexes the entries on SQLite."""


@dataclass(frozen=True, slots=True)
class SearchWords:
    """Holds what a text must contain. Nothing in it is an operator: punctuation only separates words."""

    words: Sequence[str]
    parts: Sequence[str]
    """Lists letters in scripts that put no spaces between words."""

    @classmethod
    def read(cls, query: str) -> "SearchWords":
        plain = query.translate(_SPACES)
        words = [word for word in _CJK.sub(" ", plain).split() if any(map(str.isalnum, word))]
        return cls(words, [part for found in _CJK.findall(plain) for part in re.findall(r"\w+", found)])

    def __bool__(self) -> bool:
        return bool(self.words or self.parts)

    def excerpt(self, text: str, length: int, before: int) -> str:
        """Returns the text around the first of the words, on one line."""
        line = " ".join(text.split())
        words = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in self.words]
        found = re.search("|".join((*words, *self.parts)), line, re.IGNORECASE)
        start = max(0, min(found.start() - before, len(line) - length)) if found else 0
        shown = line[start : start + length]
        if start:
            shown = f"…{shown[1:]}"
        return f"{shown[:-1]}…" if start + length < len(line) else shown

    def fts5(self) -> str:
        """Returns the query for SQLite's index, in which these letters are words that follow each other."""
        quoted = (f'"{word}"' for word in (*self.words, *map(" ".join, self.parts)))
        return f"words : ({' AND '.join(quoted)})"

    def tsquery(self) -> ColumnElement[Any]:
        """Returns the query for PostgreSQL's index, which has these letters one by one and in pairs."""
        pairs = [f"'{part[place : place + 2]}'" for part in self.parts for place in range(max(1, len(part) - 1))]
        if not self.words:
            return cast(" & ".join(pairs), TSQUERY)
        words = func.plainto_tsquery(literal_column("'pg_catalog.simple'"), " ".join(self.words))
        # Null, which finds nothing, if PostgreSQL knows no letter in it: an empty query would leave out the words.
        known = cast(func.nullif(cast(words, String), ""), TSQUERY)
        return known.op("&&")(cast(" & ".join(pairs), TSQUERY)) if pairs else known


@dataclass(frozen=True, slots=True)
class SearchHit:
    conversation_id: UUID
    title: str
    said_at: datetime
    role: Role
    content: str


class ConversationSearch(ConversationRepository):
    """Searches messages of all branches, and titles."""

    async def search(
        self,
        words: SearchWords,
        limit: int,
        cursor: UUID | None,
        *,
        archived: bool,
        pinned: bool | None,
        agent_id: UUID | None,
    ) -> Page[Conversation]:
        """Returns a page of conversations with all of the words in a message or the title, as lists are ordered.

        Words that many messages have fill a page from the newest conversations. Only if they do not, all that the user
        has with these words are read: nobody's number of messages makes the search of others slower.
        """
        if not words:
            return Page([], None)
        listed = self._listed(cursor, archived=archived, pinned=pinned, agent_id=agent_id)
        found = await self._walk(words, listed, limit)
        if len(found) <= limit:
            matches = self._entries(words, "user", self._user_id, _ENTRY.conversation_id)
            rows = listed.where(Conversation.id.in_(matches))
            if not self._is_sqlite:
                # The offset keeps PostgreSQL from going through the conversations in order, and all matches for each.
                rows = _newest_of(aliased(Conversation, rows.order_by(None).offset(0).subquery()), limit)
            found = (await self._session.scalars(rows.limit(limit + 1))).all()
        page = self._to_page(found, limit)
        await self._add_snippets(page.items, words)
        return page

    async def _walk(self, words: SearchWords, listed: Select[Conversation], limit: int) -> Sequence[Conversation]:
        """Looks through the newest conversations, many only if one of a few has the words.

        For a rare and a common word it is in vain, and costs most: PostgreSQL looks for the common one beside each
        entry with the rare one, and does so for each conversation.
        """
        found: Sequence[Conversation] = []
        for count in (PROBED, WALKED):
            walked = aliased(Conversation, listed.limit(count).subquery())
            entry = self._entries(words, "conversation", walked.id, _ENTRY.id).exists()
            found = (await self._session.scalars(_newest_of(walked, limit).where(entry))).all()
            if not found or len(found) > limit:
                break
        return found

    async def messages(self, words: SearchWords, limit: int) -> Sequence[SearchHit]:
        """Returns the messages with all of the words, newest first."""
        if not words:
            return []
        newest = self._newest(words, "user", self._user_id, _ENTRY.conversation_id).limit(limit)
        found = (
            self._rows()
            .join(Message, Message.conversation_id == Conversation.id)
            .where(Message.id.in_(newest))
            .with_only_columns(Conversation.id, Conversation.title, Message.created_at, Message.role, Message.content)
            .order_by(Message.id.desc())
        )
        return [SearchHit(*row) for row in await self._session.execute(found)]

    async def _add_snippets(self, conversations: Sequence[Conversation], words: SearchWords) -> None:
        """Adds to each conversation a snippet of the newest message that has the words."""
        newest = self._newest(words, "conversation", Conversation.id, Conversation.id).limit(1).scalar_subquery()
        ids = self._rows().where(Conversation.id.in_([one.id for one in conversations])).with_only_columns(newest)
        # Not joined, for which both databases may read all messages of a conversation, or of everybody.
        of = Message.id.in_((await self._session.scalars(ids)).all())
        found = await self._session.execute(select(Message.conversation_id, Message.content).where(of))
        texts = {row.conversation_id: row.content for row in found}
        for conversation in conversations:
            if (text := texts.get(conversation.id)) is not None:
                conversation.snippet = words.excerpt(text, SNIPPET, BEFORE)

    def _newest(
        self, words: SearchWords, owner: str, id: _Id, conversation_id: ColumnElement[UUID] | _Column
    ) -> Select[UUID]:
        """Selects the ids of messages with the words, newest first."""
        found = self._entries(words, owner, id, _ENTRY.id).where(_ENTRY.id != conversation_id)
        if self._is_sqlite:
            return found.order_by(_INDEX.c.rowid.desc())
        apart = found.correlate(Conversation).offset(0).subquery()  # else PostgreSQL may read all entries in this order
        return select(apart.c.id).order_by(apart.c.id.desc())

    def _entries(self, words: SearchWords, owner: str, id: _Id, which: ColumnElement[UUID]) -> Select[UUID]:
        """Selects the entries with the words that a `user` or `conversation` has."""
        if self._is_sqlite:
            own = literal(id.hex) if isinstance(id, UUID) else type_coerce(id, String)
            of = literal(f'{owner}_id : "').concat(own).concat(f'" AND {words.fts5()}')
            matches = literal_column("chat_search_words").op("MATCH")(of)
            return select(which).join_from(_INDEX, CONVERSATION_SEARCH, _ENTRY.number == _INDEX.c.rowid).where(matches)
        own = literal(str(id)) if isinstance(id, UUID) else cast(id, String)
        of = cast(literal(f"'{owner} ").concat(own).concat("'"), TSQUERY)
        return select(which).where(_ENTRY.words.op("@@")(of.op("&&")(words.tsquery())))

    @property
    def _is_sqlite(self) -> bool:
        return self._session.get_bind().dialect.name == "sqlite"


def _newest_of(conversations: type[Conversation], limit: int) -> Select[Conversation]:
    """Selects a page of them, and one more that shows whether there are more."""
    return select(conversations).order_by(conversations.last_message_id.desc()).limit(limit + 1)
