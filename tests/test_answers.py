"""Tests answers as a person gives them, with the real command."""

import re
from pathlib import Path

import pytest
import yaml
from lives import IDENTITY
from matrix import QUESTIONS
from processes import run, succeed
from questions import Answers
from small import needs_git
from terminal import converse

BAD = [
    ("project_name=", "The project name must not be empty."),
    ("project_name= Bot", "The project name must not begin or end with a space."),
    (
        "project_name=My\nBot",
        "The project name must not contain line breaks, control characters or invisible characters.",
    ),
    ("project_name=" + "x" * 81, "The project name has 81 characters; use at most 80."),
    ('project_name=The "Bot"', 'The project name must not contain any of these characters: " \\ ` $ { } < >'),
    ("project_name={{ 7 * 7 }}", 'The project name must not contain any of these characters: " \\ ` $ { } < >'),
    ("project_slug=My_Bot", '"My_Bot" is not a slug: use lower-case letters, digits and single hyphens'),
    ("project_slug=bot\n", '"bot\\n" is not a slug'),
    (
        "project_slug=fastapi",
        '"fastapi" is reserved (a Python module, a keyword, a command or a dependency)',
    ),
    ("project_slug=" + "x" * 51, "The project slug has 51 characters; use at most 50."),
    ("project_description=", "The project description must not be empty."),
    ("project_description=" + "x" * 201, "The project description has 201 characters; use at most 200."),
    ("author_name=$(id)", 'The author name must not contain any of these characters: " \\ ` $ { } < >'),
    ("author_email=ada", '"ada" is not an e-mail address such as name@example.com.'),
    ("license=WTFPL", "Invalid choice for 'license': 'WTFPL' is not in ['MIT'"),
    ("setup=slow", "Invalid choice for 'setup': 'slow' is not in ['quick', 'full', 'custom']"),
    ("features=[chat, mail]", "Invalid choice for 'features': 'mail' is not in ['chat', 'agents', 'speech']"),
    ("features=[agents]", "The feature agents needs chat: choose both, or neither."),
    ("features=[agents, speech]", "The feature agents needs chat: choose both, or neither."),
    ("ai_providers=[skynet]", "Invalid choice for 'ai_providers': 'skynet' is not in ['anthropic'"),
    ("database=mysql", "Invalid choice for 'database': 'mysql' is not in ['sqlite', 'postgresql']"),
    ("python_version=2.7", "Invalid choice for 'python_version': '2.7' is not in ['3.11'"),
]


@pytest.mark.parametrize(("answer", "sentence"), BAD, ids=[repr(answer)[:40] for answer, _ in BAD])
def test_a_bad_answer_writes_nothing(answer: str, sentence: str, template: Path, tmp_path: Path) -> None:
    done = run("copier", "copy", "--defaults", "--data", answer, template, "made", cwd=tmp_path)
    assert done.returncode == 1
    assert sentence in done.stdout.rstrip().splitlines()[-1]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("folder", ["made", "in a folder"])
def test_a_good_answer_says_the_next_command(folder: str, template: Path, tmp_path: Path) -> None:
    said = succeed("copier", "copy", "--defaults", "--data", "project_name=Our Bot", template, folder, cwd=tmp_path)
    quoted = f"'{folder}'" if " " in folder else folder
    assert f"cd {quoted} && uv run our-bot dev" in said
    assert (tmp_path / folder / "pyproject.toml").exists()


@needs_git
@pytest.mark.parametrize("folder", ["made", "in Ada's folder"])
def test_a_good_answer_says_how_it_gets_into_git(folder: str, template: Path, tmp_path: Path) -> None:
    said = succeed("copier", "copy", "--defaults", template, folder, cwd=tmp_path)
    [command] = re.findall(r"(?m)^ +(cd .* git init .*)$", said)
    assert "Unless the folder is in a repository already, run this" in said
    succeed("sh", "-c", command, cwd=tmp_path, **IDENTITY)
    assert succeed("git", "status", "--porcelain", cwd=tmp_path / folder) == ""
    assert command.endswith(f"-m '{succeed('git', 'log', '--format=%s', cwd=tmp_path / folder).strip()}'")
    readme = (tmp_path / folder / "README.md").read_text(encoding="utf-8")
    assert f"\n{command.split(' && ', 1)[1]}\n" in readme


def test_answers_may_come_from_a_file(template: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.yml").write_text("project_name: 2048\nfeatures: []\ndatabase: postgresql\n")
    succeed("copier", "copy", "--defaults", "--data-file", "answers.yml", template, "made", cwd=tmp_path)
    assert 'name = "bot-2048"' in (tmp_path / "made" / "pyproject.toml").read_text(encoding="utf-8")
    assert "postgresql://" in (tmp_path / "made" / "app" / "defaults.env").read_text(encoding="utf-8")


DOWN = "\x1b[B"
CUSTOM = DOWN * 2
CLEAR = "\x15"  # Ctrl-U takes away the default that is offered for editing


def help_of(name: str) -> str:
    return QUESTIONS.asked[name]["help"]


def test_quick_asks_for_the_name_only(template: Path, tmp_path: Path) -> None:
    made = asked_for_the_name_only("", template, tmp_path)
    assert made == {**made, **QUESTIONS.answers(QUESTIONS.row({}))}


def test_full_asks_for_the_name_only_and_has_everything(template: Path, tmp_path: Path) -> None:
    made = asked_for_the_name_only(DOWN, template, tmp_path)
    assert made["setup"] == "full"
    for name in filter(QUESTIONS.many, QUESTIONS.asked):
        assert made[name] == QUESTIONS.choices(name)


def asked_for_the_name_only(setup: str, template: Path, folder: Path) -> Answers:
    answers = {help_of("project_name"): f"{CLEAR}Our Bot", help_of("setup"): setup}
    screen = converse("copier", "copy", template, "made", cwd=folder, answers=answers)
    assert "uv run our-bot dev" in screen
    for name in QUESTIONS.asked.keys() - {"project_name", "setup"}:
        assert help_of(name) not in screen
    return yaml.safe_load((folder / "made" / ".copier-answers.yml").read_text(encoding="utf-8"))


def test_custom_asks_for_everything(template: Path, tmp_path: Path) -> None:
    answers = {help_of(name): "" for name in QUESTIONS.asked}
    answers[help_of("setup")] = CUSTOM
    answers[help_of("author_name")] = "Ada"
    converse("copier", "copy", template, "made", cwd=tmp_path, answers=answers)
    recorded = yaml.safe_load((tmp_path / "made" / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded["setup"] == "custom"
    assert recorded["author_name"] == "Ada"
    assert recorded["features"] == ["chat", "agents", "speech"]


TYPED = [
    ("project_name", ['The "Bot"', "must not contain any of these characters", "The Bot"]),
    ("project_slug", ["fastapi", "choose another slug", "my-api"]),
    ("project_description", ["", "The project description must not be empty", "It talks"]),
    ("author_name", ["x" * 81, "has 81 characters; use at most 80", "Ada"]),
    ("author_email", ["ada", "is not an e-mail address", "ada@example.com"]),
]


@pytest.mark.parametrize(("question", "lines"), TYPED)
def test_a_bad_answer_at_the_prompt_may_be_corrected(
    question: str, lines: list[str], template: Path, tmp_path: Path
) -> None:
    typed, words, good = lines
    answers: dict[str, str] = {}
    for name in QUESTIONS.asked:
        answers[help_of(name)] = f"{CLEAR}{typed}" if name == question else CUSTOM if name == "setup" else ""
        if name == question:
            answers[words] = f"{CLEAR}{good}"
    converse("copier", "copy", template, "made", cwd=tmp_path, answers=answers)
    recorded = yaml.safe_load((tmp_path / "made" / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded[question] == good


def test_every_question_for_a_text_is_in_the_list_above() -> None:
    assert [question for question, _ in TYPED] == QUESTIONS.texts
