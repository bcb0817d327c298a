"""Tests that the configuration of services and tools is valid, safe, and calls what is there: here and in projects."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from conftest import Render
from copier import run_copy
from matrix import MATRIX, QUESTIONS
from processes import ROOT, run, succeed
from rendering import quick
from services import database, databases
from small import needs_git

SCHEMAS = {
    ".devcontainer/docker-compose.yaml": "compose-spec",
    ".github/ISSUE_TEMPLATE/[!c]*.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    ".github/dependabot.yml": "dependabot",
    ".github/workflows/*.yml": "github-workflows",
    ".gitlab-ci.yml": "gitlab-ci",
}
USED = re.compile(r"(?m)^ *(?:- )?uses: (.*)$")
PINNED = re.compile(r"([\w-]+/[\w-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)")
DEVCONTAINER = {
    *("customizations", "dockerComposeFile", "forwardPorts", "postCreateCommand", "service", "workspaceFolder"),
}
"""Names the properties of the specification that a dev container of Compose may have, as far as they are used here."""
COMPOSED = ".devcontainer/docker-compose.yaml"
OF_NO_SERVICE = [".agents", "alembic", "app", "tests"]
SHARED = {"UV_NO_SYNC": "1", "UV_PROJECT_ENVIRONMENT": sys.prefix}
"""Makes `uv run` use the environment that runs the tests."""


def faults(*folders: Path) -> str:
    """Returns what validators say, and nothing when all is well."""
    said = list(_by_schema(folders))
    github = [str(folder / ".github") for folder in folders if (folder / ".github").is_dir()]
    if github:
        said.append(run("zizmor", "--offline", "--no-progress", "--quiet", *github, cwd=ROOT))
    return "\n".join(done.stdout for done in said if done.returncode)


def _by_schema(folders: Sequence[Path]) -> Iterator[CompletedProcess[str]]:
    for pattern, schema in SCHEMAS.items():
        if files := [path for folder in folders for path in sorted(folder.glob(pattern))]:
            yield run("check-jsonschema", f"--builtin-schema=vendor.{schema}", *files, cwd=ROOT)


@pytest.fixture(scope="session")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Renders the configuration of every variant, without those that equal another's."""
    found: dict[str, Path] = {}
    with quick():
        for variant in MATRIX.variants:
            folder = tmp_path_factory.mktemp("configured")
            run_copy(str(template), folder, variant.answers, defaults=True, quiet=True, exclude=OF_NO_SERVICE)
            found.setdefault(_configured(folder), folder)
    return list(found.values())


def _configured(folder: Path) -> str:
    patterns = [*SCHEMAS, ".devcontainer/devcontainer.json", ".pre-commit-config.yaml"]
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return "\0".join(path.read_text(encoding="utf-8") for path in found)


def test_everything_here_is_valid_and_safe() -> None:
    assert not faults(ROOT)


@pytest.mark.slow
def test_everything_in_projects_is_valid_and_safe(projects: list[Path]) -> None:
    assert len(projects) > 10
    assert not faults(*projects)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("path", "old", "new", "word"),
    [
        (".github/workflows/ci.yml", r"checkout@[0-9a-f]{40}", "checkout@v7", "unpinned-uses"),
        (".github/workflows/ci.yml", "contents: read", "contents: write", "excessive-permissions"),
        (".github/workflows/ci.yml", r"with:\n +persist-credentials: false", "", "artipacked"),
        (".github/workflows/ci.yml", "uv run deptry .", "echo ${{ github.head_ref }}", "template-injection"),
        (".github/workflows/ci.yml", "timeout-minutes", "timeout-minute", "timeout-minute"),
        (".github/dependabot.yml", "interval: weekly", "interval: often", "often"),
        (".gitlab-ci.yml", "build:\n  image", "image:\n  image", "docker:29"),
        (".devcontainer/docker-compose.yaml", "init:", "inits:", "inits"),
    ],
)
def test_a_planted_fault_is_found(path: str, old: str, new: str, word: str, render: Render) -> None:
    project = render(ci="gitlab" if "gitlab" in path else "github", tooling=["devcontainer"])
    assert not faults(project)
    text, count = re.subn(old, new, (project / path).read_text(encoding="utf-8"), count=1)
    assert count == 1
    (project / path).write_text(text, encoding="utf-8")
    assert word in faults(project)


def test_an_action_is_pinned_the_same_everywhere(default_project: Path) -> None:
    files = [path for folder in (ROOT, default_project) for path in (folder / ".github" / "workflows").glob("*.yml")]
    used = [line for path in files for line in USED.findall(path.read_text(encoding="utf-8"))]
    pinned = {match.groups() for line in used if (match := PINNED.fullmatch(line))}
    assert all(PINNED.fullmatch(line) for line in used)
    assert len(pinned) == len({action for action, _, _ in pinned}) == 3


def jobs(project: Path) -> dict[str, list[str]]:
    """Returns the lines that each job runs."""
    github, gitlab = project / ".github" / "workflows" / "ci.yml", project / ".gitlab-ci.yml"
    if gitlab.exists():
        read = yaml.safe_load(gitlab.read_text(encoding="utf-8"))
        return {name: job["script"] for name, job in read.items() if isinstance(job, dict) and "script" in job}
    read = yaml.safe_load(github.read_text(encoding="utf-8"))["jobs"]
    return {
        name: [line for step in job["steps"] for line in step.get("run", "").splitlines()] for name, job in read.items()
    }


def test_both_services_run_the_same(render: Render) -> None:
    github, gitlab = jobs(render(ci="github")), jobs(render(ci="gitlab"))
    gitlab["test"].remove('export DATABASE_URL="$TEST_DATABASE_URL"')
    assert github == gitlab


def test_what_is_checked_is_what_the_readme_says(default_project: Path) -> None:
    readme = (default_project / "README.md").read_text(encoding="utf-8")
    [section] = re.findall(r"(?s)\n## Test it\n.*?```sh\n(.*?)```", readme)
    said = [command.strip() for line in section.splitlines() for command in line.split("&&")]
    told = jobs(default_project)
    assert {*told["check"], *told["test"]} >= set(said)
    assert set(told["check"]) - set(said) == {"uv sync --all-extras"}


def test_an_image_is_built_where_there_is_one(render: Render) -> None:
    for ci in ("github", "gitlab"):
        assert jobs(render(ci=ci, deployment=["docker"]))["build"] == ["docker build --tag my-bot ."]
        assert "build" not in jobs(render(ci=ci, deployment=[]))


def test_the_versions_of_python_are_the_oldest_and_the_chosen(render: Render) -> None:
    for version in ("3.11", "3.13"):
        github, gitlab = render(ci="github", python_version=version), render(ci="gitlab", python_version=version)
        on = yaml.safe_load((github / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
        of = yaml.safe_load((gitlab / ".gitlab-ci.yml").read_text(encoding="utf-8"))
        tested = on["jobs"]["test"]["strategy"]["matrix"]["python"]
        assert tested == of["test"]["parallel"]["matrix"][0]["UV_PYTHON"] == sorted({"3.11", version})


@pytest.mark.parametrize("version", QUESTIONS.choices("python_version"))
def test_what_runs_the_project_uses_the_chosen_python_and_the_readme_says_which(version: str, render: Render) -> None:
    for ci in ("github", "gitlab"):
        project = render(ci=ci, python_version=version, deployment=["docker"], tooling=["devcontainer"])
        readme = (project / "README.md").read_text(encoding="utf-8")
        assert f"The project is made for Python {version}, which the image and CI use" in readme
        assert f"`uv sync --python {version}`" in readme
        assert set(pythons_of_ci(project)) == {version}
        assert set(pythons_of_containers(project)) == {version}
        assert not (project / ".python-version").exists()


def pythons_of_ci(project: Path) -> Iterator[str]:
    """Yields the Python of each job that calls uv, but for the matrix of tests. The Docker image has one of its own."""
    github, gitlab = project / ".github" / "workflows" / "ci.yml", project / ".gitlab-ci.yml"
    if gitlab.exists():
        read = yaml.safe_load(gitlab.read_text(encoding="utf-8"))
        yield read["variables"]["UV_PYTHON"]
        assert "$UV_PYTHON-" in read["default"]["image"]
        assert {name for name in jobs(project) if "image" in read[name]} == {"build"}
        return
    for name, job in yaml.safe_load(github.read_text(encoding="utf-8"))["jobs"].items():
        calls_uv = any(re.match(r"uvx? ", line) for line in jobs(project)[name])
        asked = [step["with"]["python-version"] for step in job["steps"] if "setup-uv@" in step.get("uses", "")]
        assert len(asked) == calls_uv
        if name == "test":
            assert asked == ["${{ matrix.python }}"]
        else:
            yield from asked


def pythons_of_containers(project: Path) -> Iterator[str]:
    """Yields the Python of each stage of the image, of the workspace's image, and the one that uv is told there."""
    stages = re.findall(r"(?m)^FROM (.*)$", (project / "Dockerfile").read_text(encoding="utf-8"))
    workspace = yaml.safe_load((project / COMPOSED).read_text(encoding="utf-8"))["services"]["workspace"]
    for image in (*stages, workspace["image"]):
        [version] = re.findall(r"python[:-]?(\d+\.\d+)-", image)
        yield version
    yield workspace["environment"]["UV_PYTHON"]


@pytest.mark.slow
def test_the_quick_commands_run(render: Render) -> None:
    """Leaves the slow ones to test_variants.py."""
    project = render()
    told = jobs(project)
    quick = [line for line in told["check"] if not line.endswith(("--all-extras", "pyright"))]
    assert len(quick) == 4
    commands = [shlex.split(line.replace("uv run my-bot", "uv run python -m app.cli")) for line in told["test"][2:]]
    for line in quick:
        succeed(*shlex.split(line), cwd=project, **SHARED)
    for kind in databases():
        with database(kind) as url:
            for command in commands:
                succeed(*command, cwd=project, DATABASE_URL=url, **SHARED)


@pytest.mark.slow
def test_a_lock_that_is_not_there_or_not_true_ends_a_run(render: Render) -> None:
    project = render(features=[], ai_providers=[])
    [export] = [line for line in jobs(project)["audit"] if line.startswith("uv export")]
    assert "Unable to find lockfile" in run(*shlex.split(export), cwd=project, UV_LOCKED="1").stdout
    succeed("uv", "lock", "--quiet", cwd=project)
    succeed(*shlex.split(export), cwd=project, UV_LOCKED="1")
    assert "--hash=sha256:" in (project / "pins.txt").read_text(encoding="utf-8")
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    (project / "pyproject.toml").write_text(text.replace('"anyio>=', '"anyio[trio]>='), encoding="utf-8")
    assert "needs to be updated" in run(*shlex.split(export), cwd=project, UV_LOCKED="1").stdout


@pytest.mark.slow
def test_a_container_is_described_as_specified(projects: list[Path]) -> None:
    folders = [path for project in projects if (path := project / ".devcontainer").is_dir()]
    assert folders
    for folder in folders:
        described = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
        compose = yaml.safe_load((folder / described["dockerComposeFile"]).read_text(encoding="utf-8"))
        workspace = compose["services"][described["service"]]
        environment = Path(workspace["environment"]["UV_PROJECT_ENVIRONMENT"])
        assert described.keys() == DEVCONTAINER
        assert f"..:{described['workspaceFolder']}" in workspace["volumes"]
        assert not environment.is_relative_to(described["workspaceFolder"])
        settings = described["customizations"]["vscode"]["settings"]
        assert settings["python.defaultInterpreterPath"] == f"{environment}/bin/python"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_container_has_the_database_of_the_defaults(kind: str, render: Render) -> None:
    project = render(tooling=["devcontainer"], database=kind, project_slug="a-bot")
    compose = yaml.safe_load((project / ".devcontainer" / "docker-compose.yaml").read_text(encoding="utf-8"))
    services, defaults = compose["services"], (project / "app" / "defaults.env").read_text(encoding="utf-8")
    assert {services[name]["network_mode"] for name in ("workspace", "redis")} == {"service:postgres"}
    name = services["postgres"]["environment"]["POSTGRES_DB"]
    assert kind == "sqlite" or f"postgresql://postgres@127.0.0.1:5432/{name}\n" in defaults.replace('"', "")


@pytest.fixture
def committed(render: Render) -> Path:
    project = render()
    for command in (("init", "--quiet"), ("add", "--all")):
        succeed("git", *command, cwd=project)
    return project


@needs_git
def test_hooks_are_valid(committed: Path) -> None:
    succeed("prek", "validate-config", ".pre-commit-config.yaml", cwd=committed)


@needs_git
@pytest.mark.slow
def test_hooks_pass_and_mend_and_refuse(committed: Path, tmp_path: Path) -> None:
    prek = ("prek", "run", "--all-files")
    settings = {**SHARED, "PREK_HOME": str(tmp_path / "prek")}
    succeed(*prek, cwd=committed, **settings)
    file = committed / "app" / "services" / "untidy.py"
    file.write_text("import os\nfrom fastapi   import FastAPI\nx = FastAPI\n")
    succeed("git", "add", "--all", cwd=committed)
    done = run(*prek, cwd=committed, **settings)
    assert done.returncode == 1
    assert file.read_text() == "from fastapi import FastAPI\n\nx = FastAPI\n"
    assert "app.services.untidy -> fastapi" in done.stdout


@needs_git
@pytest.mark.slow
def test_a_commit_of_an_untidy_file_is_refused(committed: Path, tmp_path: Path) -> None:
    """Installs the hook with the README's line."""
    readme = (committed / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"`(uv run prek install)`", readme)
    settings = {**SHARED, "PREK_HOME": str(tmp_path / "prek")}
    succeed(*shlex.split(line), cwd=committed, **settings)
    (committed / "app" / "untidy.py").write_text("x  = 1\n")
    succeed("git", "add", "--all", cwd=committed)
    commit = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--message=All")
    done = run(*commit, cwd=committed, **settings)
    assert done.returncode == 1
    assert "files were modified by this hook" in done.stdout
    succeed("git", "add", "--all", cwd=committed)
    succeed(*commit, cwd=committed, **settings)
