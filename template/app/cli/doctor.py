"""Reports what is configured, reachable and missing."""

import asyncio
import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from app.cli._report import Report
from app.core.commands import full_command
from app.core.errors import SetupError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from app.core.config import Settings
    from app.core.database import Database
    from app.core.telemetry.settings import TelemetrySettings

_DIAGNOSTICS = re.compile(r"(?m)^async def (diagnostics|look)\(")
"""Finds the functions that `doctor` asks; `look` is their name in 0.1, which works until 0.3."""
_OF_TRACES = (
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED"),
    *("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER"),
)
"""Lists the settings that together decide where traces and metrics go."""

app = typer.Typer()


@app.command()
def doctor(
    template: Annotated[
        bool,
        typer.Option("--template", help="Also look for a newer version of the template, and for your edits of it."),
    ] = False,
) -> None:
    """Say what is configured, reachable and missing. The exit status is 1 when something must be mended.

    Something optional that is not there is `off`, which is no error. With --template it also says which version of the
    template this is, whether there is a newer one, and which of the template's files you edited.
    """
    from app.cli._python_version import describe_python
    from app.cli._settings_report import check_names, check_settings
    from app.cli._template import run_parley
    from app.core.config import ROOT, load_environment

    report = Report()
    _check_env(report)
    load_environment()
    kinds = check_settings(report)
    check_names(report, {name.upper() for kind in kinds for name in kind.model_fields})
    wrong = set[str]().union(*kinds.values())
    asyncio.run(_check_parts(report, wrong))
    if sentence := describe_python(ROOT):
        report.off(sentence)
    report.print()
    asked = run_parley("doctor") if template else 0
    raise typer.Exit(1 if report.is_broken else asked)


def _check_env(report: Report) -> None:
    from app.core.config import ENV_FILE

    if ENV_FILE.exists():
        report.ok(f"{ENV_FILE} is there")
    elif os.environ.get("SECRET_KEY"):
        report.off("There is no .env: settings come from the environment alone")
    else:
        report.missing(f"There is no .env: run {full_command('init')}")


async def _check_parts(report: Report, wrong: set[str]) -> None:
    from app.core.config import Settings, read_settings

    try:
        settings = read_settings(Settings)
    except SetupError:  # reported already: a missing setting may have no stand-in
        return
    if "database_url" not in wrong:
        await _check_database(report, settings)
    if settings.redis_url:
        await _check_redis(report, settings)
    if "app_url" not in wrong:
        _check_links(report, settings)
    if "smtp_url" not in wrong:
        await _check_mail(report, settings)
    await _check_models(report, settings)
    await _check_features(report)
    _check_telemetry(report, wrong)


async def _check_database(report: Report, settings: "Settings") -> None:
    from app.cli._settings_report import shown
    from app.core.database import open_database
    from app.core.migrations import check_migrations

    if _is_not_made_yet(settings.database_url):
        report.missing(f"There is no database {settings.database_url.database} yet: run {full_command('db upgrade')}")
        return
    try:
        async with open_database(settings) as database:
            report.ok(f"The database {shown(settings.database_url)} answers", "DATABASE_URL")
            await check_migrations(database)
            report.ok("The database has every migration")
            await _check_jobs(report, database, settings)
    except SetupError as error:
        report.problem(str(error))


async def _check_jobs(report: Report, database: "Database", settings: "Settings") -> None:
    from app.models.job import JobStatus
    from app.repositories.job import JobRepository
    from app.repositories.process import ProcessRepository

    async with database.read() as session:
        counts = await JobRepository(session).count_by_name()
        has_worker = await ProcessRepository(session).has_worker()
    if failed := sum(of.get(JobStatus.failed, 0) for of in counts.values()):
        report.problem(f"Background jobs failed: {failed}; {full_command('jobs list')} tells why")
    if not (has_worker or settings.worker_in_server):
        report.problem(f"No process runs background jobs, such as e-mails: start {full_command('worker')}")


def _is_not_made_yet(url: "URL") -> bool:
    """Tells whether the database is a file that does not exist yet, in a folder that does."""
    path = Path(url.database or "")
    return url.get_backend_name() == "sqlite" and path.parent.is_dir() and not path.exists()


async def _check_redis(report: Report, settings: "Settings") -> None:
    from app.core.redis import open_redis

    try:
        async with open_redis(settings):
            report.ok("Redis answers", "REDIS_URL")
    except SetupError as error:
        report.problem(str(error))


def _check_links(report: Report, settings: "Settings") -> None:
    if settings.environment == "production" and _is_this_machine(urlsplit(settings.app_url).hostname or ""):
        report.problem(f"APP_URL is {settings.app_url}, so links in e-mails lead nowhere: set it to your web site.")


async def _check_mail(report: Report, settings: "Settings") -> None:
    from app.services.email.mailer import MailFailure, SmtpMailer

    if settings.smtp_url is None:
        report.off(f"Mail is kept in the folder {settings.mailbox_folder}: set SMTP_URL to send it", "MAILBOX_FOLDER")
        return
    try:
        await SmtpMailer(settings.smtp_url.get_secret_value()).check()
        report.ok("The mail server answers", "SMTP_URL")
    except MailFailure as error:
        report.problem(f"The mail server cannot be used ({error}): start it or correct SMTP_URL.")


def _is_this_machine(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return f".{host}".endswith(".localhost")
    return address.is_loopback or address.is_unspecified


async def _check_models(report: Report, settings: "Settings") -> None:
    from app.services.ai.registry import find_unusable

    problems = await find_unusable(settings)
    if settings.ai_model == "demo":
        report.ok("The model is demo, which works offline: set AI_MODEL to use a real one")
    elif "AI_MODEL" not in problems:
        report.ok(f"The model is {settings.ai_model} and its key is there", "AI_MODEL")
    for sentences in problems.values():
        for sentence in sentences:
            report.problem(sentence)


async def _check_features(report: Report) -> None:
    """Asks every module of the application that has `async def diagnostics() -> list[str]`."""
    from app.cli._settings_report import modules_with

    for module in modules_with(_DIAGNOSTICS):
        try:
            diagnose = getattr(module, "diagnostics", None) or module.look
            for line in await diagnose():
                report.finding(line)
        except SetupError as error:
            report.problem(str(error))


def _check_telemetry(report: Report, wrong: set[str]) -> None:
    from app.core.config import read_settings
    from app.core.telemetry.settings import TelemetrySettings
    from app.core.telemetry.setup import lacking

    wanted = read_settings(TelemetrySettings)
    unusable = lacking(wanted)
    for sentence in unusable.values():
        report.problem(sentence)
    settled = {name.upper() for name in wrong} | unusable.keys()
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in settled:
        _say_where_traces_go(report, wanted)
    if "SENTRY_DSN" not in settled:
        if wanted.sentry_dsn:
            report.ok("Errors go to Sentry", "SENTRY_DSN")
        else:
            report.off("Errors go to the log only: set SENTRY_DSN to report them to Sentry, too")


def _say_where_traces_go(report: Report, wanted: "TelemetrySettings") -> None:
    if wanted.sends:
        what = "Traces and metrics" if wanted.sends_traces and wanted.sends_metrics else "Telemetry"
        receiver = f"{wanted.otel_exporter_otlp_endpoint} as {wanted.otel_exporter_otlp_protocol}"
        report.ok(f"{what} are sent to {receiver}", *_OF_TRACES)
    else:
        report.off(f"Traces and metrics go nowhere: {_why_nowhere(wanted)}", *_OF_TRACES)


def _why_nowhere(wanted: "TelemetrySettings") -> str:
    if wanted.otel_exporter_otlp_endpoint is None:
        return "set OTEL_EXPORTER_OTLP_ENDPOINT to send them"
    if wanted.otel_sdk_disabled:
        return "OTEL_SDK_DISABLED turns them off"
    return "OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER turn them off"
