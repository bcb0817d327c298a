"""Exports `app.services.accounts.auth` under a shorter path."""

from app.services.accounts.auth import AuthService

__all__ = ["AuthService"]
