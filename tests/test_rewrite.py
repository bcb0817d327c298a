"""Tests lists of moves, and what single modules become by them."""

import pytest

from parley.moves import Moves, read_moves
from parley.names import Names
from parley.rewrite import rewrite


def test_moves_of_several_releases_are_one() -> None:
    first = "1.0.0: {files: {a/x.py: a/y.py, b/: c/}, names: {a.x.One: a.y.Two}}\n"
    second = "1.1.0: {files: {a/y.py: a/z.py, c/d.py: e.py}, names: {a.y.Two: a.t.Three, a.y.Four: a.t.Four}}\n"
    both = read_moves(first + second)
    assert [both.path(path) for path in ("a/x.py", "b/d.py", "b/f.py", "q.py")] == ["a/z.py", "e.py", "c/f.py", "q.py"]
    assert both.names == {"a.x.One": "a.t.Three", "a.x.Four": "a.t.Four"}
    assert read_moves(first + second, known=first) == read_moves(second)


NAMES = Names(
    Moves({"app/a.py": "app/b/c.py", "app/d/": "app/e/"}, {"app.a.One": "app.b.one.One", "app.a.Two": "app.b.c.Three"}),
    ["app/__init__.py", "app/a.py", "app/d/f.py", "app/d/__init__.py"],
    lambda _: {},
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import app.a\napp.a.x\n", "import app.b.c\napp.b.c.x\n"),
        ("import app.a as a\na.x\n", "import app.b.c as a\na.x\n"),
        ("from app import a\na.x\na = 1\n", "from app.b import c\nc.x\na = 1\n"),
        ("from app import a\nc = 1\na.x\n", "from app.b import c as a\nc = 1\na.x\n"),
        ("from app import a as q, d\nd.f\n", "from app import e\nfrom app.b import c as q\ne.f\n"),
        ("from app.a import One, Two, x\n", "from app.b.c import Three, x\nfrom app.b.one import One\n"),
        ("from app.a import Two\nx: 'Two'\ny = Two()\n", "from app.b.c import Three as Two\nx: 'Two'\ny = Two()\n"),
        ("from app.a import (\n    x,  # why\n)\n", "from app.b.c import (\n    x,  # why\n)\n"),
        ("from .a import x\n", "from app.b.c import x\n"),
        ("from . import a\na\n", "from app.b import c\nc\n"),
        ("from app.d import f\n", "from app.e import f\n"),
        (
            "def g():\n    from app.a import One\n    return One\n",
            "def g():\n    from app.b.one import One\n    return One\n",
        ),
        ("patch('app.a.One.x')\n", "patch('app.b.one.One.x')\n"),
        (
            "x = 'app.a:run', 'app/a.py', 'app.ab', 'my.app.a'\n",
            "x = 'app.b.c:run', 'app/b/c.py', 'app.ab', 'my.app.a'\n",
        ),
        ("from app.b import c\n", "from app.b import c\n"),
        ("app.a = 1\n", "app.a = 1\n"),
    ],
)
def test_a_module_follows_names(before: str, after: str) -> None:
    assert rewrite(before, "app/own.py", NAMES).text == after
