"""What is configured, reachable and missing, in plain words."""

import asyncio
import os
import re
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.core.errors import SetupError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from app.core.config import Settings

VALUE_CHARACTERS = 60
_STAND_INS = {"secret_key": "stands in for a secret key that is wrong"}

S = TypeVar("S", bound="BaseSettings")

app = typer.Typer()


@app.command()
def doctor(
    template: Annotated[
        bool, typer.Option("--template", help="Look at the template, even if that is far away.")
    ] = False,
) -> None:
    """Say what is configured, reachable and missing. The exit status is 1 when something must be mended.

    It also says which version of the template this is, whether there is a newer one, and which of the template's files
    you edited, if the template is on this machine or --template asks.
    """
    from app.cli._python_version import describe_python
    from app.cli._template_report import describe
    from app.core.config import ROOT, load_environment

    report = _Report()
    _look_at_env(report)
    load_environment()
    asyncio.run(_look_at_parts(report, *_look_at_settings(report)))
    for line in describe(ROOT, anywhere=template):
        report.ok(line)
    if told := describe_python(ROOT):
        report.ok(told)
    raise typer.Exit(1 if report.broken else 0)


class _Report:
    """One line for each thing that was looked at."""

    def __init__(self) -> None:
        self.broken = False

    def ok(self, text: str) -> None:
        self._line("ok", "green", text)

    def missing(self, text: str) -> None:
        self.broken = True
        self._line("missing", "yellow", text)

    def problem(self, text: str) -> None:
        self.broken = True
        self._line("problem", "red", text)

    def _line(self, word: str, colour: str, text: str) -> None:
        typer.echo(f"{typer.style(f'{word:<9}', fg=colour)}{text}")


def _look_at_env(report: _Report) -> None:
    from app.core.config import ENV_FILE

    if ENV_FILE.exists():
        report.ok(f"{ENV_FILE} is there")
    elif os.environ.get("SECRET_KEY"):
        report.ok("There is no .env, and the environment has a SECRET_KEY")
    else:
        report.missing("There is no .env: run the `init` command")


def _look_at_settings(report: _Report) -> "tuple[Settings, set[str]]":
    """Those of the base, and the names of those that are wrong."""
    from pydantic_settings import BaseSettings

    from app.core.config import Settings

    import_module("app.main")  # and with it the settings of every feature
    for kind in BaseSettings.__subclasses__():
        if kind is not Settings and kind.__module__.startswith("app."):
            _read(report, kind)
    return _read(report, Settings)


def _read(report: _Report, kind: type[S]) -> tuple[S, set[str]]:
    """Stand-ins take the place of what is wrong, so that the rest can be looked at, too."""
    from app.core.config import read_settings

    wrong = set[str]()
    try:
        settings = read_settings(kind)
    except SetupError as error:
        for sentence in re.split(r"(?<=\.) (?=[A-Z_]+: )", str(error)):
            wrong.add(sentence.split(":")[0].lower())
            (report.missing if "it is missing" in sentence else report.problem)(sentence)
        settings = kind(**{name: _default(kind, name) for name in wrong})
    for line in _noteworthy(settings, wrong):
        report.ok(line)
    return settings, wrong


def _noteworthy(settings: "BaseSettings", wrong: set[str]) -> Iterator[str]:
    """Secrets, without their values, and what .env or the environment changed."""
    from pydantic import SecretStr

    usual = _usual(type(settings))
    for name, value in settings:
        if name in wrong:
            continue
        if isinstance(value, SecretStr):
            yield f"{name.upper()} is set"
        elif value != getattr(usual, name):
            yield f"{name.upper()} is {_shown(value)}"


def _usual(kind: type[S]) -> S:
    """What the settings are without .env and environment."""
    from dotenv import dotenv_values

    from app.core.config import DEFAULTS_FILE

    chosen = dotenv_values(DEFAULTS_FILE, interpolate=False)
    values: dict[str, Any] = {name: chosen.get(name.upper()) or _default(kind, name) for name in kind.model_fields}
    return kind(**values)


def _default(kind: "type[BaseSettings]", name: str) -> Any:
    return _STAND_INS.get(name, kind.model_fields[name].default)


def _shown(value: object) -> str:
    from sqlalchemy import URL

    if isinstance(value, URL):  # a password may be in its place or in the query
        value = value.set(query={}).render_as_string(hide_password=True)
    text = " ".join(str(value).split())
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]} …"


async def _look_at_parts(report: _Report, settings: "Settings", wrong: set[str]) -> None:
    if "database_url" not in wrong:
        await _look_at_database(report, settings)
    if settings.redis_url and "redis_url" not in wrong:
        await _look_at_redis(report, settings)
    if "smtp_url" not in wrong:
        await _look_at_mail(report, settings)
    if "ai_model" not in wrong:
        await _look_at_model(report, settings)
    await _look_at_features(report)
    _look_at_telemetry(report)


async def _look_at_database(report: _Report, settings: "Settings") -> None:
    from app.core.database import open_database
    from app.core.migrations import check_migrations

    try:
        async with open_database(settings) as database:
            report.ok(f"The database {_shown(settings.database_url)} answers")
            await check_migrations(database)
            report.ok("The database has every migration")
    except SetupError as error:
        report.problem(str(error))


async def _look_at_redis(report: _Report, settings: "Settings") -> None:
    from app.core.redis import open_redis

    try:
        async with open_redis(settings):
            report.ok("Redis answers")
    except SetupError as error:
        report.problem(str(error))


async def _look_at_mail(report: _Report, settings: "Settings") -> None:
    from app.services.mail import MailFailure, SmtpMailer

    if settings.smtp_url is None:
        report.ok(f"Mail is kept in the folder {settings.mailbox_folder}: SMTP_URL names a server")
        return
    try:
        await SmtpMailer(settings.smtp_url.get_secret_value()).check()
        report.ok("The mail server answers")
    except MailFailure as error:
        report.problem(f"The mail server cannot be used ({error}): start it or correct SMTP_URL.")


async def _look_at_model(report: _Report, settings: "Settings") -> None:
    from app.services.ai_model import open_ai

    try:
        async with open_ai(settings):
            hint = (
                ", which is offline: AI_MODEL names a real one"
                if settings.ai_model == "demo"
                else " and its key is there"
            )
            report.ok(f"The model is {settings.ai_model}{hint}")
    except SetupError as error:
        report.problem(str(error))


async def _look_at_features(report: _Report) -> None:
    from app.api.v1.router import looks

    for look in looks:
        try:
            for line in await look():
                report.ok(line)
        except SetupError as error:
            report.problem(str(error))


def _look_at_telemetry(report: _Report) -> None:
    from app.core.config import read_settings
    from app.core.telemetry.opening import check
    from app.core.telemetry.settings import TelemetrySettings

    try:
        wanted = read_settings(TelemetrySettings)
    except SetupError:  # which has been said
        return
    try:
        check(wanted)
    except SetupError as error:
        report.problem(str(error))
        return
    receiver = f"{wanted.otel_exporter_otlp_endpoint} as {wanted.otel_exporter_otlp_protocol}"
    off = "nowhere: OTEL_EXPORTER_OTLP_ENDPOINT names a receiver"
    report.ok(f"Traces and metrics go {f'to {receiver}' if wanted.sends else off}")
    report.ok(f"Errors go to {'Sentry' if wanted.sentry_dsn else 'the log alone: SENTRY_DSN names who else is told'}")
