"""A short path to `app.services.accounts.auth`."""

from app.services.accounts.auth import AuthService

__all__ = ["AuthService"]
