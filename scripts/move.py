"""Moves files and parts of the template as moves.yml says under Unreleased: `python scripts/move.py`.

It also changes what imports or names them: in template/ all files but released migrations, outside of it copier.yml
and the manual. Run it once, in a clean tree, look at `git diff`, and mend by hand what it prints.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # parley is not installed here

from parley.modules import with_imports, without_unused
from parley.moves import LIST, Moves, read_moves
from parley.names import Names
from parley.parts import left
from parley.pieces import imported, pieces
from parley.rewrite import Rewritten, rewrite
from parley.tidy import Tidy

JINJA = ".jinja"
MIGRATIONS = "alembic/versions/"
BESIDE = ("copier.yml", "docs/*.md", "docs/decisions/*.md")


def move(root: Path, moves: Moves) -> list[str]:
    """Moves everything. Returns what is left to do by hand, a sentence each."""
    template = root / "template"
    texts = dict(_texts(template))
    names = Names(moves, texts, lambda path: _imports(texts[path]))
    tidy = Tidy(template, ("app", "tests"), "--config=line-length=120")
    notes: list[str] = []
    for name, text in texts.items():
        done = rewrite(text, name, names) if name.endswith(".py") else None
        notes += (f"{name}: {note}." for note in done.notes) if done else ()
        if name.startswith(MIGRATIONS):
            continue
        (template / name).unlink()
        bare = name.removesuffix(JINJA)
        _write(
            template / (moves.path(bare) + name.removeprefix(bare)),
            _changed(text, done, tidy) if done else names.in_text(text),
        )
    for pattern in BESIDE:
        for path in root.glob(pattern):
            path.write_text(names.in_text(path.read_text(encoding="utf-8")), encoding="utf-8")
    _move_parts(template, moves, names, tidy)
    return notes


def _changed(text: str, done: Rewritten, tidy: Tidy) -> str:
    return text if done.text == text else tidy.text(done.text, "module.py")


def _move_parts(template: Path, moves: Moves, names: Names, tidy: Tidy) -> None:
    """Moves parts to other modules, after all files have been moved and all names in them are new."""
    origins = dict.fromkeys(old.rpartition(".")[0] for old in moves.names)
    for origin in filter(names.is_module, origins):
        module = names.of(origin)
        source = _file(template, module)
        text = source.read_text(encoding="utf-8")
        goes = {new.rpartition(".")[2]: new.rpartition(".")[0] for _, new in names.split_items(origin)}
        homes = {name: goes.get(name, module) for name in pieces(text) if "." not in name}
        gone = {name: home for name, home in homes.items() if home != module}
        for name, home in gone.items():
            target = _file(template, home)
            there = target.read_text(encoding="utf-8") if target.is_file() else ""
            joined = "\n\n\n".join(filter(None, (there.rstrip(), pieces(text)[name].cut(text))))
            others = {other: place for other, place in homes.items() if place != home}
            _write(target, tidy.text(with_imports(joined, _all_imports(text, others)), target.name))
        rest = left(text, {*gone})
        whole = with_imports(without_unused(rest, rest, text), _all_imports(text, homes))
        _write(source, tidy.text(whole, source.name))


def _all_imports(text: str, homes: Mapping[str, str]) -> str:
    """Returns a module with further imports: of each of these names from its module."""
    return "\n".join([text, *(f"from {module} import {name}" for name, module in homes.items())])


def _file(template: Path, module: str) -> Path:
    path = template / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def _imports(text: str) -> Mapping[str, str]:
    return {name: f"{module}.{what}" for name, (module, what) in imported(text).items() if what}


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            try:
                yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def _write(path: Path, text: str) -> None:
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in made if path.suffix == ".py" else ():
        (folder / "__init__.py").touch()
    path.write_text(text, encoding="utf-8")


def main() -> int:
    listed = yaml.safe_load((ROOT / LIST).read_text(encoding="utf-8")) or {}
    if "Unreleased" not in listed:
        print(f"{LIST} has nothing under Unreleased.", file=sys.stderr)
        return 1
    text = yaml.safe_dump({"Unreleased": listed["Unreleased"]})
    print("\n".join(move(ROOT, read_moves(text))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
