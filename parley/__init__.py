"""Provides the template's own command, which works on projects of every release and imports nothing of theirs."""
