import pytest
from sqlalchemy import text

from app.core.database import Database
from app.core.errors import SetupError
from app.core.migrations import check_migrations, heads
from tests.conftest import migrate


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """Yields a database that no other test gets, since its revisions change."""
    migrate(empty_database_url)
    return empty_database_url


async def execute(database: Database, statement: str) -> None:
    async with database.write() as session:
        await session.execute(text(statement))


async def test_a_database_with_every_migration(database: Database) -> None:
    await check_migrations(database)


async def test_a_database_that_lacks_some(database: Database) -> None:
    await execute(database, "DELETE FROM alembic_version")
    with pytest.raises(SetupError, match=rf"lacks migrations \(up to {sorted(heads())[0]}.*`.+ db upgrade`"):
        await check_migrations(database)


async def test_a_database_without_a_table(database: Database) -> None:
    await execute(database, "DROP TABLE alembic_version")
    with pytest.raises(SetupError, match=r"`.+ db upgrade`"):
        await check_migrations(database)


async def test_a_database_that_is_newer_than_the_code_is_that_of_a_release_on_its_way(database: Database) -> None:
    await execute(database, "DELETE FROM alembic_version")
    await execute(database, "INSERT INTO alembic_version VALUES ('of_a_newer_release')")
    await check_migrations(database)
