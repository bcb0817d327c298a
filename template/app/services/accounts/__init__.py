"""Manages accounts: how people are identified, how they sign in, and what they may export or delete."""
