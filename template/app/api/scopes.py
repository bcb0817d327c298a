"""Decides what API keys may do: which scopes can be granted, and which ones a request needs."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.requests import HTTPConnection

from app.core.errors import MissingScope
from app.repositories.principal import Principal

READ = "read"
"""Allows every GET request that costs nothing."""
ACCOUNT_TAGS = {"admin", "auth", "info", "users"}
"""Lists the tags of routes about accounts themselves and of everyone, which no API key may use."""


def grantable_scopes(routers: Iterable[APIRouter]) -> set[str]:
    """Lists what API keys can be granted: the tags of all routers but those of accounts, and `read`."""
    return {READ} | {str(tag) for router in routers for tag in router.tags} - ACCOUNT_TAGS


def scopes_of(connection: HTTPConnection) -> set[str]:
    """Lists the scopes that allow a request: any tag of its route, and `read` for a GET."""
    return spending_scopes_of(connection) | ({READ} if connection.scope.get("method") == "GET" else set())


def spending_scopes_of(connection: HTTPConnection) -> set[str]:
    """Lists the scopes that allow a request which is charged: `read` does not, even for a GET."""
    return set(getattr(connection.scope.get("route"), "tags", ()))


def within_scopes(user: Principal, wanted: set[str]) -> Principal:
    """Returns the user. Raises MissingScope when it is an API key with none of these scopes."""
    if user.scopes is None or not wanted.isdisjoint(user.scopes):
        return user
    if grantable := sorted(wanted - ACCOUNT_TAGS):
        raise MissingScope(f"This needs an API key with the scope {' or '.join(grantable)}.")
    raise MissingScope("An API key cannot do this; log in.")
