"""A small template with three releases, and projects made from it.

Its Jinja is written with brackets, and its variables apart, so that nothing takes this file for a template.
"""

import subprocess
from pathlib import Path

COPIER = "_copier"
QUESTIONS = """
_subdirectory: template
_envops: {block_start_string: "[%", block_end_string: "%]", variable_start_string: "[[", variable_end_string: "]]"}
project_slug: {type: str, default: my-bot}
colour: {type: str, default: red, choices: [red, green]}
features:
  type: str
  multiselect: true
  default: [bell]
  choices: {A bell: bell, A wheel: wheel}
_exclude:
  - .git
  - |
    [% if 'bell' not in features %]
    alembic/versions/bell
    app/services/bell.py
    [% endif %]
    [% if 'wheel' not in features %]
    app/services/wheel.py
    [% endif %]
"""
ANSWERS = f"""# Checksum: [[
  {COPIER}_answers | dictsort | rejectattr(0, 'in', ['_commit', '_src_path']) | list | to_json | checksum
]]
[[ {COPIER}_answers | to_nice_yaml -]]
""".replace("[[\n  ", "[[ ").replace("\n]]", " ]]")
SOURCE = f"Made from [[ template_source | default({COPIER}_answers._src_path) ]]\n"
BELL = '''"""a bell"""

revision = "bell_0001"
down_revision = None
branch_labels = ("bell",)
depends_on = "base_0001"


def upgrade() -> None:
    pass
'''
LINES = [f"line {number}\n" for number in range(1, 31)]
CHANGELOG = """# Changelog

## [0.3.0] - 2026-03-01

### By hand

Nothing.

## [0.2.0] - 2026-02-01

### Added

- A speed.

### By hand

- Oil the wheel.

## [0.1.0] - 2026-01-01
"""
FIRST: dict[str, str] = {
    "copier.yml": QUESTIONS,
    "CHANGELOG.md": CHANGELOG,
    "template/.copier-answers.yml.jinja": ANSWERS,
    "template/.env.example": "SECRET_KEY=\n#OLD_SETTING=1\n",
    "template/.gitignore": "__pycache__/\n*.db\n*.db-*\n.env\n",
    "template/alembic/versions/bell/bell_0001_a_bell.py": BELL,
    "template/app/services/bell.py": "SOUND = 'ding'\n",
    "template/app/services/wheel.py": "SPOKES = 12\n",
    "template/docs/old.md": "old\n",
    "template/guide.md": "".join(LINES),
    "template/source.md.jinja": SOURCE,
}
SECOND = {
    "copier.yml": QUESTIONS + "speed: {type: int, default: 3}\n",
    "template/.env.example": "SECRET_KEY=\n#NEW_SETTING=1\n",
    "template/docs/new.md": "new\n",
    "template/docs/old.md": "",
    "template/guide.md": "".join(["line one\n", *LINES[1:]]),
}
THIRD = {"template/guide.md": "".join(["line one\n", *LINES[1:-1], "the last line\n"])}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path, message: str = "work") -> None:
    git(folder, "add", "--all", ".")
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={message}")


def release(folder: Path, version: str, files: dict[str, str]) -> None:
    """A text that is empty removes its file."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text) if text else path.unlink()
    commit(folder, version)
    git(folder, "tag", version)


def make_template(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet")
    for version, files in (("v0.1.0", FIRST), ("v0.2.0", SECOND), ("v0.3.0", THIRD)):
        release(folder, version, {**files, "pyproject.toml": f'[project]\nversion = "{version.removeprefix("v")}"\n'})
    return folder


def adopt(folder: Path, template: Path, version: str = "v0.1.0") -> None:
    """Renders a release into a folder, and commits all that is in it."""
    import copier

    copier.run_copy(str(template), folder, vcs_ref=version, defaults=True, overwrite=True, quiet=True)
    git(folder, "init", "--quiet")
    commit(folder)
