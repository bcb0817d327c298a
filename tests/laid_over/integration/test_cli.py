"""Tests the command line: once in a process of its own, otherwise in that of the test."""

import asyncio
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.core.commands import full_command
from app.core.config import Settings
from app.core.database import open_database
from app.core.files import create_file
from app.core.security import Passwords
from app.core.telemetry import setup
from app.models.user import User
from app.repositories.user import UserRepository
from tests.integration.conftest import InProcess, Project, branch, newest

PASSWORD = "correct horse battery staple\n"


@pytest.fixture
def project(in_process: InProcess) -> Project:
    return in_process


def test_help_names_the_commands(project: Project) -> None:
    process = Project(project.folder)
    said = process.succeed("--help")
    for command in ("init", "dev", "serve", "db", "users", "openapi", "doctor"):
        assert f"\n  {command} " in said
    assert process.fail("nonsense") == "No such command 'nonsense'."


def test_init_writes_a_secret_once(project: Project) -> None:
    project.succeed("init", SECRET_KEY=None)
    env = project.folder / ".env"
    [line] = [line for line in env.read_text().splitlines() if line.startswith("SECRET_KEY=")]
    assert len(line) > len("SECRET_KEY=") + 60
    assert os.name == "nt" or stat.S_IMODE(env.stat().st_mode) == 0o600
    env.write_text("SECRET_KEY=\n")
    said = project.succeed("init", SECRET_KEY=None)
    assert "stays as it is" in said
    assert "It needs this line:\nSECRET_KEY=" in said
    assert env.read_text() == "SECRET_KEY=\n"
    assert sorted(path.name for path in project.folder.glob(".env*")) == [".env", ".env.example"]


def test_init_fills_in_every_secret_with_one_of_its_own(project: Project) -> None:
    example = project.folder / ".env.example"
    others = "#OLD_PASSWORD=\nOPEN_PASSWORD=letmein\nPASSWORD_FILE=\n"
    example.write_text(f"NEW_PASSWORD=\nSECRET_KEY=changeme\n{others}", encoding="utf-8")
    project.succeed("init", SECRET_KEY=None)
    written = (project.folder / ".env").read_text(encoding="utf-8")
    filled = re.fullmatch(rf"NEW_PASSWORD=(.{{64}})\nSECRET_KEY=(.{{64}})\n{others}", written)
    assert filled
    assert filled[1] != filled[2]


def test_init_adds_a_secret_key_to_an_example_without_one(project: Project) -> None:
    (project.folder / ".env.example").write_text("#APP_NAME=Bot\n", encoding="utf-8")
    project.succeed("init", SECRET_KEY=None)
    assert re.fullmatch(r"SECRET_KEY=.{64}\n#APP_NAME=Bot\n", (project.folder / ".env").read_text())


def test_init_does_not_overwrite_what_another_has_just_written(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("another")
    assert not create_file(tmp_path / ".env", b"ours")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["another"]


def test_init_that_cannot_write_is_a_sentence(project: Project) -> None:
    (project.folder / ".env.example").unlink()
    assert project.fail("init").endswith("/.env.example: No such file or directory).")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECRET_KEY", None, f"SECRET_KEY: it is missing; {full_command('init')} writes it to .env."),
        ("SECRET_KEY", "hunter2", f"SECRET_KEY: at least 32 bytes are needed; {full_command('init')} writes"),
        ("ENVIRONMENT", "prod", "ENVIRONMENT: input should be 'local', 'staging' or 'production'."),
        (
            "DATABASE_URL",
            "postgresql://x@127.0.0.1:1/none?requirepeer=hunter2",
            "DATABASE_URL: the driver does not know",
        ),
    ],
)
def test_a_wrong_setting_is_a_sentence(project: Project, name: str, value: str | None, sentence: str) -> None:
    assert project.fail("serve", typed="", **{name: value}).startswith(sentence)


def test_a_wrong_argument_is_a_sentence(project: Project) -> None:
    assert project.fail("serve", "--port", "99999").startswith("Invalid value for '--port'")
    assert project.fail("db", "downgrade").startswith("Missing argument")


def test_a_revision_that_does_not_exist(project: Project) -> None:
    assert project.fail("db", "upgrade", "nonsense") == "There is no revision nonsense."
    assert project.fail("db", "upgrade", "") == "Name a revision, or BRANCH@head."


def test_an_unreachable_database(project: Project) -> None:
    sentence = project.fail("db", "upgrade", DATABASE_URL="postgresql://x:hunter2@127.0.0.1:1/none")
    assert sentence.startswith("The database postgresql+asyncpg://x:***@127.0.0.1:1/none cannot be used")


def test_current_tells_where_each_branch_is(project: Project) -> None:
    project.succeed("db", "upgrade", newest("base"))
    lines = {line.split()[0]: line for line in project.succeed("db", "current").splitlines()}
    assert lines["base"].startswith(f"base      {newest('base')} (")
    assert lines["base"].endswith("), up to date")
    assert lines["project"].endswith(f"nothing, {len(branch('project'))} to apply")


def test_a_migration_whose_file_is_gone_is_not_passed_over(prepared: Project) -> None:
    with closing(sqlite3.connect(prepared.folder / "app.db")) as database, database:
        database.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    assert prepared.fail("db", "current").startswith("The database has the migration 0123456789ab, whose file is gone:")


def test_a_branch_can_be_undone(prepared: Project) -> None:
    undone = [line.split(":")[0] for line in prepared.succeed("db", "downgrade", "project@base").splitlines()]
    assert undone[-1] == "Undid project_0001"
    assert sorted(undone) == sorted(f"Undid {revision}" for revision in branch("project"))
    assert prepared.fail("users", "create", "a@example.com", typed=PASSWORD).startswith(
        "The database lacks migrations (up to "
    )


async def account(settings: Settings, email: str) -> User | None:
    async with open_database(settings) as database, database.read() as session:
        return await UserRepository(session).find_by_email(email)


def test_an_account_is_made_by_the_rules_of_the_api(project: Project, settings: Settings, database_url: str) -> None:
    ada = ("users", "create", "Ada@Example.com", "--full-name", "Ada", "--superuser")
    said = project.succeed(*ada, typed=PASSWORD, DATABASE_URL=database_url)
    assert said == "Created the superuser ada@example.com.\n"
    taken = project.fail("users", "create", "ada@example.com", typed=PASSWORD, DATABASE_URL=database_url)
    assert taken == "A user with this e-mail address exists."
    user = asyncio.run(account(settings, "ada@example.com"))
    assert user is not None
    assert (user.full_name, user.is_superuser) == ("Ada", True)
    assert asyncio.run(Passwords(settings).verify(PASSWORD.rstrip(), user.hashed_password, user.email))


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(prepared: Project) -> None:
    with prepared.at_terminal("users", "create", "ada@example.com") as terminal:
        for first, second in (("hunter-two-two", "hunter-two-three"), ("hunter-two-two", "hunter-two-two")):
            terminal.wait_for("Password: ")
            terminal.type(f"{first}\n")
            terminal.wait_for("confirmation: ")
            terminal.type(f"{second}\n")
        assert terminal.ended() == 0
    assert "do not match" in terminal.screen
    assert "hunter" not in terminal.screen
    assert "Created the user ada@example.com." in terminal.screen


def test_an_account_with_a_bad_address_and_a_bad_password(project: Project) -> None:
    sentences = project.fail("users", "create", "ada", typed="short\n")
    assert "email: value is not a valid email address" in sentences
    assert "password: String should have at least 8 characters." in sentences
    no_text = project.fail("users", "create", "ada@example.com", "--full-name", "\udcff", typed=PASSWORD)
    assert no_text == "full_name: the text must not contain half of a surrogate pair."


def test_the_openapi_document_needs_no_database(project: Project) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/none"
    printed = project.succeed("openapi", DATABASE_URL=nowhere)
    assert "/api/v1/users/me" in json.loads(printed)["paths"]
    project.succeed("openapi", "--output", "openapi.json", DATABASE_URL=nowhere)
    assert (project.folder / "openapi.json").read_text() == printed
    sentence = project.fail("openapi", "--output", "no/such/folder", DATABASE_URL=nowhere)
    assert sentence == "no/such/folder cannot be written (No such file or directory)."


def test_the_doctor_finds_all_well(prepared: Project) -> None:
    prepared.succeed("init")
    lines = prepared.succeed("doctor", APP_NAME="Ours").splitlines()
    for verdict, said in (
        ("ok", ".env is there"),
        ("ok", "SECRET_KEY is set"),
        ("ok", "APP_NAME is Ours"),
        ("ok", "answers"),
        ("ok", "every migration"),
        ("off", "Mail is kept"),
        ("ok", "demo"),
        ("off", "Traces and metrics go nowhere"),
        ("off", "Errors go to the log only"),
    ):
        assert any(said in line and line.startswith(f"{verdict} ") for line in lines), said
    assert {line.split()[0] for line in lines} == {"ok", "off"}


def test_the_doctor_finds_all_that_is_wrong(project: Project) -> None:
    done = project.run(
        "doctor",
        SECRET_KEY="hunter2",
        ENVIRONMENT="prod",
        DATABASE_URL="postgresql://postgres:hunter2@127.0.0.1:1/none",
        AI_MODEL="nobody:knows",
        REDIS_URL="redis://:hunter2@127.0.0.1:1/0",
        SMTP_URL="smtps://u:hunter2@127.0.0.1:1",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://u:hunter2@127.0.0.1:1",
        SENTRY_DSN="hunter2",
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "hunter2" not in done.stdout
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
    for said in (
        "SECRET_KEY: at least",
        "ENVIRONMENT: input",
        "The database",
        "AI_MODEL=nobody:knows cannot",
        "Redis cannot be used (ConnectionError)",
        "The mail server cannot be used (SMTPConnectError)",
        "OTEL_EXPORTER_OTLP_ENDPOINT: leave user and password out",
        "SENTRY_DSN: copy it",
    ):
        assert any(said in line for line in problems), said


def test_the_doctor_knows_what_a_setting_was_meant_to_be(prepared: Project) -> None:
    meant = {
        "AI_MODLE": "AI_MODEL",
        "DATABSE_URL": "DATABASE_URL",
        "SMTP_URI": "SMTP_URL",
        "Log_Levle": "LOG_LEVEL",
        "SENTRY_DNS": "SENTRY_DSN",
        "OTEL_EXPORTER_OTLP_ENDPIONT": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "REGISTRATON_OPEN": "REGISTRATION_OPEN",
    }
    others = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "AWS_REGION", "AWS_PROFILE", "UV_INDEX_URL", "TZ", "POSTGRES_USER"]
    others += ["COHERE_API_KEY", "PERPLEXITY_BASE_URL", "SENTRY_ENVIRONMENT", "HTTPS_PROXY", "MY_OWN", "log_format"]
    lines = [f"{name}=x" for name in [*meant, *others[:-1]]]
    (prepared.folder / ".env").write_text("\n".join([*lines, "log_format=json"]), encoding="utf-8")
    done = prepared.run("doctor")
    assert set(re.findall(r"off +(\S+) in \.env is no setting; did you mean (\S+)\?", done.stdout)) == {*meant.items()}
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "url", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8", "http://app.localhost"]
)
def test_the_doctor_finds_links_that_lead_nowhere_in_production(prepared: Project, url: str) -> None:
    for environment, address, found in (("production", url, 1), ("local", url, 0), ("production", "https://a.dev", 0)):
        said = prepared.run("doctor", ENVIRONMENT=environment, APP_URL=address).stdout
        assert said.count("problem  APP_URL is ") == found, said


def test_the_doctor_misses_what_is_not_there_yet(project: Project) -> None:
    done = project.run("doctor", SECRET_KEY=None)
    assert done.returncode == 1
    assert "missing  There is no .env" in done.stdout
    assert "missing  SECRET_KEY" in done.stdout
    assert "missing  There is no database " in done.stdout
    assert not (project.folder / "app.db").exists()


def test_the_doctor_says_of_a_setting_either_its_value_or_what_came_of_it(prepared: Project, tmp_path: Path) -> None:
    receiver = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}
    said = prepared.run("doctor", MAILBOX_FOLDER=str(tmp_path), **receiver).stdout
    assert said.count(f" {tmp_path}") == 1, said
    assert verdicts(said, "DATABASE_URL") == []
    assert verdicts(said, "OTEL_EXPORTER_OTLP_ENDPOINT") == []
    assert verdicts(said, "OTEL_SDK_DISABLED") == ["off"]


UNUSABLE = {
    "AI_ALLOWED_MODELS": "nobody:knows,demo",
    "AI_FALLBACK_MODELS": "nobody:knows",
    "AI_MODEL": "nobody:knows",
    "DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SENTRY_DSN": "https://key@127.0.0.1:1/1",
    "SMTP_URL": "smtp://127.0.0.1:1",
}
"""Lists well-formed settings that turn out to be unusable when they are tried."""


@pytest.fixture
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the telemetry packages, whether the environment has them or not."""
    monkeypatch.setattr(setup, "_is_installed", lambda _: False)


def verdicts(said: str, setting: str) -> list[str]:
    return [line.split()[0] for line in said.splitlines() if re.search(rf"\b{setting}\b", line)]


@pytest.mark.usefixtures("_no_telemetry")
@pytest.mark.parametrize("settings", [*({name: value} for name, value in UNUSABLE.items()), UNUSABLE], ids="+".join)
def test_the_doctor_says_of_nothing_that_it_is_well_and_cannot_be_used(
    in_process: InProcess, settings: dict[str, str]
) -> None:
    done = in_process.run("doctor", **settings)
    assert done.returncode == 1
    for setting in settings:
        assert verdicts(done.stdout, setting) == ["problem"], done.stdout


def test_the_doctor_has_one_verdict_on_a_secret_of_the_environment(in_process: InProcess) -> None:
    assert verdicts(in_process.run("doctor", SECRET_KEY="short").stdout, "SECRET_KEY") == ["problem"]


def test_the_doctor_judges_each_setting_by_itself(in_process: InProcess) -> None:
    said = in_process.run("doctor", AI_FALLBACK_MODELS="nobody:knows", SENTRY_DSN="wrong", APP_NAME="Ours").stdout
    assert "ok       The model is demo" in said
    assert "ok       APP_NAME is Ours" in said
    assert verdicts(said, "SENTRY_DSN") == ["problem"]
    assert verdicts(said, "OTEL_EXPORTER_OTLP_ENDPOINT") == ["off"]


def test_the_doctor_says_why_what_is_set_sends_nothing(in_process: InProcess) -> None:
    receiver = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    said = in_process.run("doctor", **receiver, OTEL_SDK_DISABLED="true").stdout
    assert "off      Traces and metrics go nowhere: OTEL_SDK_DISABLED turns them off\n" in said
    said = in_process.run("doctor", **receiver, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none").stdout
    assert "nowhere: OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER turn them off\n" in said


def test_the_doctor_survives_settings_that_are_at_odds_with_the_defaults_of_others(in_process: InProcess) -> None:
    done = in_process.run("doctor", AI_MAX_OUTPUT_TOKENS="many", TOKENS_PER_DAY="100", API_V1_PREFIX="v1")
    assert (done.returncode, done.stderr) == (1, "")
    assert verdicts(done.stdout, "AI_MAX_OUTPUT_TOKENS") == verdicts(done.stdout, "API_V1_PREFIX") == ["problem"]


BELL = """
from pydantic_settings import BaseSettings

from app.core.findings import Off, Problem


class BellSettings(BaseSettings):
    bell_sound: str
    bell_volume: int = 3


async def diagnostics() -> list[str]:
    return ["The bell hangs", Off("The bell has no rope"), Problem("The bell is cracked: mend it.")]
"""


@pytest.mark.parametrize("name", ["diagnostics", "look"])
def test_the_doctor_asks_what_was_added(prepared: Project, name: str) -> None:
    (prepared.folder / "app" / "services" / "bell.py").write_text(BELL.replace("diagnostics", name))
    with_own_code = Project(prepared.folder)
    done = with_own_code.run("doctor", BELL_SOUND="ding", BELL_VOLUME="loud")
    assert (done.returncode, done.stderr) == (1, "")
    for line in (
        "ok       BELL_SOUND is ding",
        "problem  BELL_VOLUME: input should be",
        "ok       The bell hangs",
        "off      The bell has no rope",
        "problem  The bell is cracked: mend it.",
    ):
        assert f"\n{line}" in done.stdout
    done = with_own_code.run("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert verdicts(done.stdout, "BELL_SOUND") == ["missing"]


COUNTED = """
import json, sys
started = []
sys.addaudithook(lambda event, _: event in {"os.fork", "os.posix_spawn", "subprocess.Popen"} and started.append(event))
from app.cli import main
sys.argv[1:] = ["doctor"]
try:
    main()
finally:
    print(json.dumps([started, list(sys.modules)]))
"""
HEAVY = {"alembic", "anthropic", "app.main", "av", "fastapi", "openai", "pydantic_ai", "pydantic_ai.models"}
"""Lists modules whose import takes a good part of a second each."""


def test_the_doctor_does_without_what_takes_long(prepared: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED],
        cwd=prepared.folder,
        env=prepared.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    started, modules = json.loads(done.stdout.splitlines()[-1])
    assert started == []
    assert set(modules) & HEAVY == set()
