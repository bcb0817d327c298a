"""What the `doctor` command may be told about a feature besides what is well, which is a plain sentence."""


class Off(str):
    """A sentence about something optional that is not there. It says how to get it."""

    __slots__ = ()


class Problem(str):
    """A sentence about what must be mended, as a start would say it. It names the settings that cannot be used."""

    __slots__ = ()
