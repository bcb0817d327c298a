"""Accounts: who somebody is, how they sign in, and what they may take along or delete."""
