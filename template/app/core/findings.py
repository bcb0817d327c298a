"""Defines what a feature may report to the `doctor` command, besides a plain sentence about what is well."""


class Off(str):
    """Says in a sentence that something optional is not there, and how to get it."""

    __slots__ = ()


class Problem(str):
    """Says in a sentence what must be fixed, as a failed start would, and names the settings that cannot be used."""

    __slots__ = ()
