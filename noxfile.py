"""What developers run: `uvx nox -s demo`, `tests`, `lint`, `typecheck`, `fuzz` or `audit`. Python and uv suffice."""

import argparse
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests", "lint", "typecheck"]
OF_A_SESSION = ("UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "VIRTUAL_ENV")
"""What tells uv to work in a session's environment. Tests run `demo` inside another session."""
MY_BOT = ("uv", "run", "my-bot")
FUZZER, FUZZER_PASSWORD = "fuzzer@example.com", "a long enough phrase"
FUZZ_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,ignored_auth"
)
FUZZ_SETTINGS = {
    "ARGON2_TIME_COST": "1",
    "ARGON2_MEMORY_KIB": "1024",
    "DEMO_MODEL_DELAY": "0",
    "LOG_LEVEL": "ERROR",
    "LOGIN_ATTEMPTS_PER_MINUTE": "0",
    "LOGIN_FAILURES_PER_HOUR": "0",
    "MAILS_PER_HOUR": "0",
    "REGISTRATIONS_PER_HOUR": "0",
    "REQUESTS_PER_MINUTE": "0",
}


@nox.session
def demo(session: nox.Session) -> None:
    """Render a project, prepare it and serve it until Ctrl-C. Takes `-- --port N`."""
    port = _free_port(session)
    session.install("copier")
    with _rendered(session) as project, session.chdir(project):
        _in_project(session, "uv", "sync", "--quiet")
        _in_project(session, "uv", "run", "my-bot", "init")
        _in_project(session, "uv", "run", "my-bot", "db", "upgrade")
        _serve(session, project, port)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the template's tests, which run those of the projects it renders. Takes pytest's arguments."""
    with _installed(session):
        session.run("pytest", "-m", "not updates", "--numprocesses=logical", "--dist=worksteal", *session.posargs)


@nox.session
def updates(session: nox.Session) -> None:
    """Take lived-in projects from every release to the template as it stands, and further. Takes pytest's arguments."""
    with _installed(session):
        fast = ("--numprocesses=logical", "--dist=worksteal")
        session.run("pytest", "-m", "updates", "-vv", "--durations=0", "--durations-min=1", *fast, *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Check what a release needs, then make its commit and its tag: `-- 1.2.0`."""
    session.install("pyyaml")
    session.run("python", "scripts/release.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layers and dependencies, here and in a default project."""
    with _installed(session) as project:
        session.run("ruff", "check")
        session.run("ruff", "format", "--check")
        with session.chdir(project):
            session.run("ruff", "check")
            session.run("ruff", "format", "--check")
            session.run("lint-imports")
            session.run("deptry", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, here and in a default project."""
    with _installed(session) as project:
        session.run("pyright")
        with session.chdir(project):
            session.run("pyright")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Try what schemathesis makes up on a served project. Takes `-- --seconds N`; 600 unless told."""
    seconds = _seconds(session)
    session.install("copier", "schemathesis")
    tests = str(Path("tests").resolve())
    with _rendered(session) as project, _served(session, project) as url, session.chdir(project):
        hooks = {"FUZZED": url, "FUZZER": FUZZER, "FUZZER_PASSWORD": FUZZER_PASSWORD}
        session.run(
            *("schemathesis", "run", f"{url}/openapi.json", f"--max-time={seconds}", "--continue-on-failure"),
            f"--checks={FUZZ_CHECKS}",
            env={**hooks, "SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": tests},
        )


@nox.session
def audit(session: nox.Session) -> None:
    """Look a default project's dependencies up among known vulnerabilities. Needs the internet."""
    session.install("copier", "pip-audit")
    with _rendered(session) as project, session.chdir(project):
        _in_project(session, "uv", "export", "--quiet", "--no-hashes", "--no-emit-project", "--output-file=pins.txt")
        # Strict, since a mirror that knows no vulnerabilities would pass for "none found".
        command = ("pip-audit", "--strict", "--no-deps", "--disable-pip", "--progress-spinner=off", "-r", "pins.txt")
        said = session.run(*command, silent=True, success_codes=[0, 1]) or ""
    if re.search(r"could not be audited|ConnectionError|Timeout", said):
        session.error("Nothing was audited: the service cannot be reached; run this where https://pypi.org answers.")
    if "No known vulnerabilities found" not in said:
        session.error(f"There are known vulnerabilities, or the audit failed:\n{said}")
    session.log("No known vulnerabilities found.")


@contextmanager
def _installed(session: nox.Session) -> Iterator[Path]:
    """Install what the template's tests and a default project need, without a lock that would name an index."""
    session.install("--group", "dev")
    with _rendered(session) as project:
        session.install("-r", f"{project}/pyproject.toml", "--group", f"{project}/pyproject.toml:dev")
        yield project


@contextmanager
def _rendered(session: nox.Session) -> Iterator[Path]:
    """A default project in a scratch folder; not below this one, whose .gitignore would hide it from the linters."""
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        settings, project = Path(scratch, "copier-settings.yml"), Path(scratch, "my-bot").resolve()
        settings.write_text("{}\n")  # not the developer's own
        copy = ("copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", ".", str(project))
        session.run(*copy, env={"COPIER_SETTINGS_PATH": str(settings)})
        yield project


def _in_project(session: nox.Session, *command: str) -> None:
    """Run in the project's own environment rather than the session's."""
    session.run(*command, external=True, env=dict.fromkeys(OF_A_SESSION))


def _free_port(session: nox.Session) -> int:
    parser = argparse.ArgumentParser(prog="uvx nox -s demo --")
    parser.add_argument("--port", type=int, default=8000)
    port: int = parser.parse_args(session.posargs).port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            session.error(f"Port {port} cannot be used; name a free one: uvx nox -s demo -- --port {port % 60000 + 1}")
    return port


def _serve(session: nox.Session, project: Path, port: int) -> None:
    server = subprocess.Popen(["uv", "run", "my-bot", "serve", f"--port={port}"], env=_outside())
    try:
        _wait_until_up(session, server, port)
        print(_what_to_try(project, port), flush=True)
        server.wait()
    except KeyboardInterrupt:
        session.log("Stopping.")
    finally:
        server.terminate()
        server.wait()


def _outside() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OF_A_SESSION}


def _wait_until_up(session: nox.Session, server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    session.error("The server stopped before it answered; its last lines above say why.")


def _what_to_try(project: Path, port: int) -> str:
    """The README's own lines, for the port that is served."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"## Chat with it\n.*?```sh\n(.*?)```", readme, re.DOTALL)[:1]
    lines = lines.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    return f"\n{project} is served. Try this in another terminal; Ctrl-C here stops it.\n\n{lines}"


def _seconds(session: nox.Session) -> int:
    parser = argparse.ArgumentParser(prog="uvx nox -s fuzz --")
    parser.add_argument("--seconds", type=int, default=600)
    seconds: int = parser.parse_args(session.posargs).seconds
    return seconds


@contextmanager
def _served(session: nox.Session, project: Path) -> Iterator[str]:
    """The address of a project with one superuser, no limits and cheap hashes. It must end in good order."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with session.chdir(project):
        for command in (("uv", "sync", "--quiet"), (*MY_BOT, "init"), (*MY_BOT, "db", "upgrade")):
            _in_project(session, *command)
        make = (*MY_BOT, "users", "create", FUZZER, "--superuser")
        subprocess.run(make, env=_outside(), input=FUZZER_PASSWORD, text=True, check=True)
        server = subprocess.Popen([*MY_BOT, "serve", f"--port={port}"], env={**_outside(), **FUZZ_SETTINGS})
    try:
        _wait_until_up(session, server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        status = server.wait()
    if status:
        session.error(f"The server ended with status {status}.")
