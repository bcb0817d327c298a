# ruff: noqa: S608 -- the statements are put together from constants
"""search in messages and titles

Triggers keep an entry for each title, and for each message once it is no longer pending: an index of the messages alone
could not tell whose they are, and would read everybody's matches of a common word.

On SQLite a trigger names only its own table and the entries: while a migration replaces another table, a trigger that
names it is an error.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "chat_0004"
down_revision = "chat_0003"
branch_labels = None
depends_on = None

CHARACTERS = 80_000
"""Limits what is found of a text: more could be more than the megabyte that a tsvector holds."""

CJK = "\u2e80-\u2fff\u3005-\u3007\u3041-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Lists the letters of scripts without spaces between words, each of which is found by itself."""

PUNCTUATION = "!\"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~"
"""Lists what separates words, which PostgreSQL would keep in addresses, numbers and paths. Quoted as SQL quotes it."""

POSTGRESQL = (
    f"""
    CREATE OR REPLACE FUNCTION chat_search_words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT strip(to_tsvector('pg_catalog.simple',
            translate(regexp_replace(content, '[{CJK}]+', ' ', 'g'), '{PUNCTUATION}', repeat(' ', 32))
        )) || CASE WHEN content ~ '[{CJK}]' THEN array_to_tsvector((
            SELECT array_agg(DISTINCT part) FROM (
                SELECT letter, lead(letter) OVER (ORDER BY place) AS following
                FROM regexp_split_to_table(content, '') WITH ORDINALITY AS letters (letter, place)
            ) AS pairs, unnest(ARRAY[letter, CASE WHEN following ~ '[{CJK}]' THEN letter || following END]) AS part
            WHERE letter ~ '[{CJK}]' AND part IS NOT NULL
        )) ELSE '' END
    $$
    """,
    f"""
    CREATE OR REPLACE FUNCTION chat_search_entry(user_id uuid, conversation_id uuid, content text) RETURNS tsvector
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
        SELECT array_to_tsvector(ARRAY['user ' || user_id, 'conversation ' || conversation_id])
            || chat_search_words(left(content, {CHARACTERS}))
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION chat_search_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NEW.status = 'pending' AND OLD.status = 'pending'
            OR NEW.status = OLD.status AND NEW.content = OLD.content THEN
                RETURN NULL;
            END IF;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM chat_search WHERE id = OLD.id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO chat_search (id, user_id, conversation_id, words)
            SELECT NEW.id, user_id, id, chat_search_entry(user_id, id, NEW.content)
            FROM conversations WHERE id = NEW.conversation_id AND NEW.status <> 'pending';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION chat_search_title() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NEW.title = OLD.title THEN
                RETURN NULL;
            END IF;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM chat_search WHERE id = OLD.id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO chat_search (id, user_id, conversation_id, words)
            VALUES (NEW.id, NEW.user_id, NEW.id, chat_search_entry(NEW.user_id, NEW.id, NEW.title));
        END IF;
        RETURN NULL;
    END $$
    """,
)
POSTGRESQL_FILL = (
    "INSERT INTO chat_search (id, user_id, conversation_id, words)"
    " SELECT id, user_id, id, chat_search_entry(user_id, id, title) FROM conversations"
    " WHERE NOT EXISTS (SELECT FROM chat_search WHERE chat_search.id = conversations.id)",
    "INSERT INTO chat_search (id, user_id, conversation_id, words)"
    " SELECT messages.id, user_id, conversation_id, chat_search_entry(user_id, conversation_id, content)"
    " FROM messages JOIN conversations ON conversations.id = conversation_id WHERE status <> 'pending'"
    " AND NOT EXISTS (SELECT FROM chat_search WHERE chat_search.id = messages.id)",
)
POSTGRESQL_TRIGGERS = tuple(
    f"CREATE TRIGGER chat_search_{of} AFTER INSERT OR UPDATE OR DELETE ON {table}"
    f" FOR EACH ROW EXECUTE FUNCTION chat_search_{of}()"
    for of, table in (("message", "messages"), ("title", "conversations"))
)
"""Names no column, since PostgreSQL does not change the type of one that a trigger names."""


def spaced(content: str) -> str:
    """Returns SQLite's expression for a text in which each letter of a script without spaces is a word.

    It goes through pieces, since SQLite counts the letters before the one that it reads.
    """
    return f"""CASE WHEN {content} GLOB '*[{CJK}]*' THEN (
        WITH RECURSIVE pieces (start, piece) AS (
            SELECT 1, substr({content}, 1, 400)
            UNION ALL SELECT start + 400, substr({content}, start + 400, 400) FROM pieces
            WHERE start + 400 <= min(length({content}), {CHARACTERS})
        ), letters (start, place, letter, piece) AS (
            SELECT start, 1, substr(piece, 1, 1), piece FROM pieces
            UNION ALL SELECT start, place + 1, substr(piece, place + 1, 1), piece FROM letters
            WHERE place < length(piece)
        )
        SELECT group_concat(CASE WHEN letter GLOB '[{CJK}]' THEN ' ' || letter || ' ' ELSE letter END, '')
        FROM (SELECT letter FROM letters ORDER BY start, place)
    ) ELSE substr({content}, 1, {CHARACTERS}) END"""


NEW_MESSAGE = f"""
    INSERT INTO chat_search (id, user_id, conversation_id, words)
    SELECT NEW.id, user_id, id, {spaced("NEW.content")} FROM chat_search
    WHERE id = NEW.conversation_id AND NEW.status <> 'pending';
"""
NEW_TITLE = f"""
    INSERT INTO chat_search (id, user_id, conversation_id, words)
    VALUES (NEW.id, NEW.user_id, NEW.id, {spaced("NEW.title")});
"""
OLD_ENTRY = "DELETE FROM chat_search WHERE id = OLD.id;"
INDEXED = "INSERT INTO chat_search_words (rowid, user_id, conversation_id, words)"
FORGOTTEN = "INSERT INTO chat_search_words (chat_search_words, rowid, user_id, conversation_id, words)"
SQLITE_TRIGGERS = tuple(
    f"CREATE TRIGGER chat_search_{name} AFTER {event} {when} BEGIN {body} END"
    for name, event, when, body in (
        (
            "indexed",
            "INSERT ON chat_search",
            "",
            f"{INDEXED} VALUES (NEW.number, NEW.user_id, NEW.conversation_id, NEW.words);",
        ),
        (
            "forgotten",
            "DELETE ON chat_search",
            "",
            f"{FORGOTTEN} VALUES ('delete', OLD.number, OLD.user_id, OLD.conversation_id, OLD.words);",
        ),
        ("message_stored", "INSERT ON messages", "WHEN NEW.status <> 'pending'", NEW_MESSAGE),
        (
            "message_changed",
            "UPDATE OF content, status ON messages",
            "WHEN NEW.status <> 'pending' OR OLD.status <> 'pending'",
            OLD_ENTRY + NEW_MESSAGE,
        ),
        ("message_deleted", "DELETE ON messages", "", OLD_ENTRY),
        ("title_stored", "INSERT ON conversations", "", NEW_TITLE),
        ("title_changed", "UPDATE OF title ON conversations", "", OLD_ENTRY + NEW_TITLE),
        ("title_deleted", "DELETE ON conversations", "", OLD_ENTRY),
    )
)
SQLITE_FILL = (
    "INSERT INTO chat_search (id, user_id, conversation_id, words)"
    f" SELECT id, user_id, id, {spaced('title')} FROM conversations ORDER BY id",
    "INSERT INTO chat_search (id, user_id, conversation_id, words)"
    f" SELECT messages.id, user_id, conversation_id, {spaced('content')} FROM messages"
    " JOIN conversations ON conversations.id = conversation_id WHERE status <> 'pending' ORDER BY messages.id",
)


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        upgrade_sqlite()
    else:
        upgrade_postgresql()


def upgrade_sqlite() -> None:
    op.execute(
        "CREATE TABLE chat_search (number INTEGER NOT NULL PRIMARY KEY, id CHAR(32) NOT NULL UNIQUE,"
        " user_id CHAR(32) NOT NULL, conversation_id CHAR(32) NOT NULL, words TEXT NOT NULL)"
    )
    op.execute(
        "CREATE VIRTUAL TABLE chat_search_words USING fts5(user_id, conversation_id, words, columnsize=0,"
        " content=chat_search, content_rowid=number, tokenize='unicode61 remove_diacritics 0')"
    )
    for statement in (*SQLITE_TRIGGERS, *SQLITE_FILL):
        run(statement)


def upgrade_postgresql() -> None:
    """Locks the messages against writes only while it stores those that came while it stored the others."""
    op.create_table(
        "chat_search",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chat_search"),
    )
    for statement in (*POSTGRESQL, *POSTGRESQL_FILL):
        run(statement)
    # Each search would read all the entries that are pending in the index.
    op.execute("CREATE INDEX ix_chat_search_words ON chat_search USING gin (words) WITH (fastupdate = off)")
    for statement in (*POSTGRESQL_TRIGGERS, *POSTGRESQL_FILL, "ANALYZE chat_search"):
        run(statement)


def run(statement: str) -> None:
    op.execute(sa.text(statement.replace(":", "\\:")))


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for name in (
            "message_stored",
            "message_changed",
            "message_deleted",
            "title_stored",
            "title_changed",
            "title_deleted",
        ):
            op.execute(f"DROP TRIGGER chat_search_{name}")
        for table in ("chat_search_words", "chat_search"):
            op.drop_table(table)
        return
    op.execute("DROP TRIGGER chat_search_message ON messages")
    op.execute("DROP TRIGGER chat_search_title ON conversations")
    op.drop_table("chat_search")
    for function in ("title()", "message()", "entry(uuid, uuid, text)", "words(text)"):
        op.execute(f"DROP FUNCTION chat_search_{function}")
