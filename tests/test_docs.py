"""Tests that what the documents say is what is there."""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from configuration import Line, row, sections
from conftest import Render
from manifest import manifest
from matrix import MATRIX, QUESTIONS
from pages import ANYTHING, FENCE, MANUAL, PAGES, files
from processes import ROOT, succeed

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CELLS = re.compile(r"(?<!\\)\|")
EXAMPLE = ROOT / "template" / ".env.example.jinja"
PASSAGES = re.compile(r"\n(?=\||- |\d+\. )|\n{2,}")
"""Separates table rows, list items and paragraphs."""
DEFINED = re.compile(r"_?[A-Z]\w*[a-z]\w*(\.\w+)?|_?[A-Z][A-Z_]+|\w+\(\)")
"""Matches what code defines: `Name`, `Name.member`, `CONSTANT` and `function()`."""


def rows() -> dict[str, list[str]]:
    """Returns the cells of each row of the table of questions, by its key."""
    lines = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines if re.match(r"\| `\w+` ", line)]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_question_has_its_row_in_order() -> None:
    assert list(rows()) == list(QUESTIONS.asked)


@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.asked.items() if "choices" in question])
def test_a_row_has_every_choice_and_the_default(name: str, default_answers: dict[str, Any]) -> None:
    values, default = rows()[name][:2]
    answer = default_answers[name]
    assert re.findall(r"`([^`]+)`", values) == QUESTIONS.choices(name)
    assert default == (", ".join(answer) if isinstance(answer, list) else answer)


@pytest.fixture(scope="session")
def default_answers(default_project: Path) -> dict[str, Any]:
    return yaml.safe_load((default_project / ".copier-answers.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_the_files_of_every_answer_are_named() -> None:
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^\| `(\w+): ([\w-]+)` \| (.*) \|$", text)
    named = [(question, value, file) for question, value, files in found for file in re.findall(r"`([^`]+)`", files)]
    assert sorted(named) == sorted(manifest())


def test_every_code_that_an_answer_can_end_with_is_named() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    sources = (ROOT / "template" / "app" / "services" / "ai").glob("*.py")
    raised = {
        code for path in sources for code in re.findall(r'ModelFailure\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"(?m)^\| `\w+` \| `(\w+)`", text)) == raised | {"length", "no_finish_reason", "internal"}


def test_the_settings_of_each_server_are_those_that_are_tested() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    [table] = re.findall(r"(?s)\| server \| `AI_MODEL` \|.*?\n\n", text)
    rows = [re.findall(r"`([^`]+)`", row) for row in table.splitlines()[2:]]
    tested = ROOT / "tests" / "laid_over" / "integration" / "test_compatible_servers.py"
    [servers] = re.findall(r"(?s)^SERVERS = (\[.*?^\])", tested.read_text(encoding="utf-8"), re.MULTILINE)
    assert [[model, *settings] for model, settings in ast.literal_eval(servers)] == [row for row in rows if row]


def test_every_way_in_which_speech_fails_is_named() -> None:
    text = (ROOT / "docs" / "speech.md").read_text(encoding="utf-8")
    source = (ROOT / "template" / "app" / "services" / "speech" / "errors.py").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^\| `(speech_\w+)`", text)) == set(re.findall(r'code = .*?"(speech_\w+)"', source))


@pytest.mark.parametrize(
    ("page", "section"),
    [
        *(("speech", "Speech"), ("agents", "Agents"), ("agents", "Tools")),
        *(("telemetry", "Telemetry"), ("jobs", "Background jobs")),
    ],
)
def test_every_setting_of_a_feature_is_named(page: str, section: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    example = EXAMPLE.read_text(encoding="utf-8")
    [settings] = [part for part in re.split(r"(?m)^# --- ", example) if part.startswith(section)]
    settings = settings.replace("#ELEVENLABS_BASE_URL=", "")
    assert set(re.findall(r"(?m)^#?([A-Z0-9_]+)=", settings)) <= set(re.findall(r"`([A-Z0-9_]+)`", text))


def test_every_event_of_an_execution_is_named() -> None:
    text = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    source = (ROOT / "template" / "app" / "schemas" / "execution_event.py").read_text(encoding="utf-8")
    [table] = re.findall(r"(?s)\| event \|.*?\n\n", text)
    assert set(re.findall(r"`(\w+\.\w+)`", table)) == set(re.findall(r'type: Literal\["(.*?)"\]', source))


@pytest.mark.parametrize("name", QUESTIONS.asked)
def test_a_row_has_the_limits_of_its_validator(name: str) -> None:
    """Finds the limits in the sentences of a validator, and in the numbers that it is called with."""
    limits = set(re.findall(r"\b\d{2,}\b", QUESTIONS.asked[name].get("validator", "")))
    assert limits <= set(re.findall(r"\d+", rows()[name][3]))


def test_security_names_every_setting_of_its_and_none_that_is_not_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    example = EXAMPLE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z0-9]+_[A-Z0-9_]+)`", text))
    assert named <= set(re.findall(r"(?m)^#?([A-Z0-9_]+)=", example))
    sections = re.split(r"(?m)^# --- ", example)
    for section in sections:
        if section.startswith(("Redis", "Limits", "Accounts", "Mail")):
            assert set(re.findall(r"(?m)^#?([A-Z0-9_]+)=", section)) <= named


@pytest.fixture(scope="session")
def sources(folder: Path) -> dict[str, ast.Module]:
    """Parses the application of the largest project, by path."""
    paths = (folder / "app").rglob("*.py")
    return {path.relative_to(folder).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_files_and_tests_that_a_page_names_are_in_a_project(page: Path, folder: Path) -> None:
    """Looks in the largest project and in this repository, unless a block of the page writes the file."""
    written = files(page)
    for path, test in re.findall(r"`((?:app|tests|alembic|scripts)/[\w./-]+)(?:::(\w+))?`", page.read_text("utf-8")):
        assert path in written or (folder / path).exists() or (ROOT / path).exists(), path
        place = folder / path if (folder / path).exists() else ROOT / path
        assert not test or f"def {test}(" in place.read_text(encoding="utf-8"), test


def test_every_pattern_has_its_files_and_its_proof() -> None:
    table, *sections = re.split(r"(?m)^## ", (MANUAL / "patterns.md").read_text(encoding="utf-8"))[1:]
    for where in re.findall(r"(?m)^\| [^|]+ \| ([^|]+) \|", table)[1:]:
        assert re.search(r"`(app|alembic|tests)/", where), where
    for section in sections:
        assert re.search(r"(?m)^\| read \| `app/|^\| read \| `(alembic|tests)/", section), section
        assert re.search(r"(?m)^\| proof \| (`tests/\S+::test_\w+`|the contracts)", section), section


@pytest.mark.parametrize("page", ["architecture", "patterns"])
def test_what_a_page_names_is_defined_in_the_files_beside_it(page: str, sources: dict[str, ast.Module]) -> None:
    """Looks in the files that the same table row, list item or paragraph names; without any, in all of the project."""
    text = FENCE.sub("", (MANUAL / f"{page}.md").read_text(encoding="utf-8"))
    known = {line.name for line in settings()}
    for passage in PASSAGES.split(text):
        names = {name for name in code(passage) if DEFINED.fullmatch(name)} - known
        beside = [path for path in code(passage) if path in sources] or sources
        assert names <= {name for path in beside for name in definitions(sources[path].body)}, passage


def definitions(nodes: list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield f"{node.name}()"
            case ast.ClassDef():
                yield from (node.name, *(f"{node.name}.{name.removesuffix('()')}" for name in definitions(node.body)))
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                yield from re.findall(r"\w+", ast.unparse(target))
            case _:
                pass


def test_every_sentence_that_is_mended_is_said_somewhere(sources: dict[str, ast.Module]) -> None:
    """Compares quoted sentences with those of the code; `…` stands for what the code inserts."""
    of_parley = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "parley").glob("*.py")]
    said = "\n".join(text for source in (*sources.values(), *of_parley) for text in texts(source))
    quoted = re.findall(r"(?m)^> (.+)$", (MANUAL / "troubleshooting.md").read_text(encoding="utf-8"))
    assert quoted
    for sentence in quoted:
        assert sentence in said, sentence


def texts(source: ast.Module) -> Iterator[str]:
    """Yields the texts of the code, with `…` where it inserts a value."""
    for node in ast.walk(source):
        if isinstance(node, ast.JoinedStr):
            yield "".join(inserted(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def inserted(part: ast.expr) -> str:
    """Returns a part of a text: itself, the arguments of a command of the project, or what stands for any value."""
    match part:
        case ast.Constant():
            return str(part.value)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="full_command"), args=[ast.Constant(value=arguments)])):
            return f"`{ANYTHING} {arguments}`"
    return ANYTHING


def test_every_instruction_names_a_whole_command() -> None:
    table = (MANUAL / "command-line.md").read_text(encoding="utf-8")
    named = {
        name for row in re.findall(r"(?m)^\| (`.+?) \|", table) for name in re.findall("`([a-z]+(?: [a-z]+)?)", row)
    }
    half = re.compile(rf"(?i)\b(?:run|use|call|start) `(?:{'|'.join(named)})\b[^`]*`")
    pages = [*MANUAL.glob("*.md"), ROOT / "README.md", ROOT / "template" / "README.md.jinja"]
    assert {(path.name, found) for path in pages for found in half.findall(path.read_text(encoding="utf-8"))} == set()


def test_every_event_of_the_log_is_named(sources: dict[str, ast.Module]) -> None:
    logged = {event for source in sources.values() for event in events_logged(source)}
    pages = [(MANUAL / f"{name}.md").read_text(encoding="utf-8") for name in ("operating", "security")]
    [table] = re.findall(r"(?s)\n\| event \|.*?\n\n", pages[0])
    of_security = re.findall(r"(?s)## What is logged\n(.*?)\n## ", pages[1])
    named = {event for part in (*re.findall(r"(?m)^\| (.*?) \|", table), *of_security) for event in code(part)}
    assert logged - named == set()
    assert named - logged - {"app.security", "local", "user_id"} == set()


def events_logged(source: ast.Module) -> Iterator[str]:
    """Yields the event of every call of a logger, but for those of `debug`."""
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            of_a_logger = ast.unparse(node.func.value) in {"log", "access"}
            if of_a_logger and isinstance(node.args[0], ast.Constant) and node.func.attr != "debug":
                yield str(node.args[0].value)


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_page_about_settings_is_what_they_are(render: Render) -> None:
    [largest] = [variant for variant in MATRIX.variants if variant.name == "largest"]
    asked = {name: largest.answers[name] for name in ("setup", "features", "ai_providers", "speech_providers")}
    page = succeed(sys.executable, "scripts/configuration.py", render(**asked), cwd=ROOT)
    assert page == (MANUAL / "configuration.md").read_text(encoding="utf-8")


def settings() -> list[Line]:
    """Reads the settings that any project has, each once for every text that an answer may give it."""
    example = re.sub(r"\{%.*?%\}\n?", "", EXAMPLE.read_text(encoding="utf-8"))
    return [line for _, lines in sections(example) for line in lines]


def test_every_setting_has_a_text_of_its_own() -> None:
    texts = Counter(line.meaning for line in settings())
    assert len(settings()) > 90
    assert [line.name for line in settings() if not line.meaning or texts[line.meaning] > 1] == []


def test_a_setting_takes_no_text_from_the_one_before() -> None:
    [(_, [one, other])] = sections("# Settings\n# of a project\n# How much\n#ONE=1\n#OTHER=2\n\n# --- Your own\n")
    assert "| How much |" in row(one, None)
    with pytest.raises(ValueError, match=r"^OTHER has no comment of its own in \.env\.example\.$"):
        row(other, None)


def test_every_page_is_in_the_navigation() -> None:
    told = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = [page.relative_to(MANUAL).as_posix() for page in (*PAGES, MANUAL / "decisions" / "README.md")]
    assert sorted(named(told)) == sorted(pages)


def named(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from named(value) if isinstance(value, list) else [value]


def test_every_decision_is_listed_in_order_by_its_title() -> None:
    decisions = sorted((MANUAL / "decisions").glob("0*.md"))
    titles = [re.sub(r"^# ", "", path.read_text(encoding="utf-8").splitlines()[0]) for path in decisions]
    lines = [f"- [{title}]({path.name})" for title, path in zip(titles, decisions, strict=True)]
    assert re.findall(r"(?m)^- .*$", (MANUAL / "decisions" / "README.md").read_text(encoding="utf-8")) == lines
