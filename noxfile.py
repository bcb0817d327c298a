"""Defines what developers run: `uvx nox --list` lists the sessions. Only Python and uv are needed."""

import argparse
import os
import re
import signal
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
nox.options.sessions = ["lint", "typecheck", "tests"]
APART = ("clients", "deep", "docs", "environments", "faults", "fresh", "load", "updates", "variants")
"""Lists the marks of tests that the session `tests` leaves to other sessions."""
IN_PARALLEL = ("--numprocesses=logical", "--dist=worksteal")
IN_ORDER = (f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=load", "--maxschedchunk=1")
"""Starts one process more than there are processors, since suites wait now and then for processes and each other."""
OF_A_SESSION = ("UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "VIRTUAL_ENV")
"""Lists variables that make uv use a session's environment. Tests run `demo` inside another session."""
COMMAND = ("uv", "run", "python", "-m", "app.cli")
CHUNK_SHAPES = 3_000
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
    """Renders a project, prepares it and serves it until Ctrl-C, also if its server is killed. Takes `-- --port N`."""
    port = _free_port(session)
    session.install("copier")
    with _rendered(session) as project, session.chdir(project):
        _in_project(session, "uv", "sync", "--quiet")
        _in_project(session, "uv", "run", "my-bot", "init")
        _in_project(session, "uv", "run", "my-bot", "db", "upgrade")
        _serve(session, project, port)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs the template's quick tests, then a fresh default project as its README says, with its own tests.

    Takes pytest's arguments; with any, the fresh project is left out, and `-- -m fresh` runs it alone.
    """
    parser = argparse.ArgumentParser(prog="uvx nox -s tests --", add_help=False)
    parser.add_argument("-m", dest="marked", help="of the quick tests, those with these marks; or `fresh`")
    asked, rest = parser.parse_known_args(session.posargs)
    quick = f"not ({' or '.join(APART)})"
    with _installed(session):
        if asked.marked != "fresh":
            chosen = f"{quick} and ({asked.marked})" if asked.marked else quick
            session.run("pytest", "-m", chosen, *IN_PARALLEL, *rest)
        if asked.marked == "fresh" or not session.posargs:
            session.run("pytest", "-m", "fresh", *rest)


@nox.session
def harness(session: nox.Session) -> None:
    """Plants defects that the checks of projects must find, and runs the other slow tests. Takes pytest's arguments."""
    with _installed(session):
        session.run("pytest", "-m", "deep and not (faults or load or updates)", *IN_PARALLEL, *session.posargs)


@nox.session
def variants(session: nox.Session) -> None:
    """Renders variants and runs the checks and tests of each: `-- [NAME …]`, `-- --random N`, `-- --list [--json]`."""
    asked = _asked_variants(session)
    if asked.list:
        session.install("--group", "dev", silent=True)
        session.run("python", "tests/matrix.py", *(["--json"] if asked.json else []))
        return
    with _installed(session):
        if asked.random is not None:
            test, told = "test_random_answers", [f"--random={asked.random}", f"--seed={asked.seed}"]
        else:
            test, told = "test_a_variant", [f"--variant={name}" for name in asked.names or ["all"]]
        tests = [f"tests/test_variants.py::{name}" for name in (test, "test_types")]
        session.run("pytest", *IN_ORDER, "--show-capture=no", *tests, *told)


@nox.session
def load(session: nox.Session) -> None:
    """Serves the largest variant and holds many chats with it at once.

    Takes `-- --quick` for the least load, `-- --full` for the most, and pytest's arguments.
    """
    with _installed(session):
        session.run("pytest", *_marked(session, "load"))


@nox.session
def faults(session: nox.Session) -> None:
    """Kills servers of the largest variant in the middle of many replies; also stops and pauses them.

    Takes `-- --quick`, which kills only, and pytest's arguments.
    """
    with _installed(session):
        session.install("libfaketime")
        session.run("pytest", "--durations=0", "--durations-min=1", *_marked(session, "faults"))


@nox.session
def clients(session: nox.Session) -> None:
    """Lets official clients talk to a served project, and clicks through the examples in a browser.

    Takes `-- --quick`, which leaves out what is slow, and pytest's arguments. npm and Node come as a wheel.
    """
    with _installed(session):
        session.run("pytest", *_marked(session, "clients"))


@nox.session
def updates(session: nox.Session) -> None:
    """Updates projects with edits and data from every release to the template as it is, and further.

    Takes `-- --quick`, which updates the default project from the newest release, and pytest's arguments.
    """
    with _installed(session):
        told = ("-vv", "--durations=0", "--durations-min=1")
        session.run("pytest", *told, *IN_ORDER, *_marked(session, "updates"))


@nox.session
def environments(session: nox.Session) -> None:
    """Runs a default project's tests with each extra alone and with the lowest versions, and it without dev tools."""
    with _installed(session):
        session.run("pytest", "-v", "-m", "environments", "--durations=0", "--durations-min=1", *session.posargs)


@nox.session
def deep(session: nox.Session) -> None:
    """Runs all checks, but for the parts that this tree has passed: `-- [PART …]`, `-- --list [--json]`."""
    session.install("nox", "uv", silent=True)
    session.run("python", "scripts/deep.py", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Checks what a release needs, then makes its commit and its tag: `-- 1.2.0`."""
    session.install("pyyaml")
    session.run("python", "scripts/release.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, layers and dependencies, here and in a default project with the tests of tests/laid_over."""
    with _installed(session) as project:
        session.run("ruff", "check")
        session.run("ruff", "format", "--check")
        with session.chdir(project):
            session.run("lint-imports")
            session.run("deptry", ".")
        session.run("python", "tests/overlay.py", str(project))
        with session.chdir(project):
            session.run("ruff", "check")
            session.run("ruff", "format", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Checks types, here and in a default project with the tests of tests/laid_over."""
    with _installed(session) as project:
        session.run("pyright")
        session.run("python", "tests/overlay.py", str(project))
        with session.chdir(project):
            session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Runs what the manual and the agents' guide say, and builds the manual into site/. `-- --serve` serves it."""
    parser = argparse.ArgumentParser(prog="uvx nox -s docs --")
    parser.add_argument("--serve", action="store_true")
    if parser.parse_args(session.posargs).serve:
        session.run("uvx", "zensical", "serve", external=True)
        return
    with _installed(session):
        session.run("pytest", "-m", "docs", *IN_PARALLEL)
    session.run("uvx", "zensical", "build", "--strict", "--clean", external=True)
    if raw := [page.name for page in Path("site").rglob("*.html") if "```" in page.read_text(encoding="utf-8")]:
        session.error(f"A code fence is not rendered in {', '.join(raw)}")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Sends requests that schemathesis generates to a served project, and reads streams of models in many shapes.

    Takes `-- --seconds N` for the requests; the default is 600.
    """
    seconds = _seconds(session)
    session.install("--group", "dev", "schemathesis")
    tests = str(Path("tests").resolve())
    with _rendered(session, "largest") as project, _served(session, project) as url, session.chdir(project):
        hooks = {"FUZZED": url, "FUZZER": FUZZER, "FUZZER_PASSWORD": FUZZER_PASSWORD}
        session.run(
            *("schemathesis", "run", f"{url}/openapi.json", f"--max-time={seconds}", "--continue-on-failure"),
            f"--checks={FUZZ_CHECKS}",
            env={**hooks, "SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": tests},
        )
        session.run("python", f"{tests}/overlay.py", str(project))
        shapes = {"CHUNK_SHAPES": str(CHUNK_SHAPES), "CHUNK_SEED": str(int(time.time()))}
        _in_project(session, "uv", "run", "pytest", "tests/integration/test_chunk_shapes.py", **shapes)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures a default project on PostgreSQL beside a minimal application; writes docs/benchmarks.json."""
    with _installed(session):
        session.install("matplotlib")
        session.run("python", "tests/bench.py")


@nox.session
def queues(session: nox.Session) -> None:
    """Compares queue engines for executions, also under faults; writes docs/queues.json: `-- [ENGINE …]`, `-- --help`.

    Needs servers of PostgreSQL, NATS with JetStream and RabbitMQ on this machine; takes half an hour.
    """
    postgresql = ("asyncpg", "dbos", "pgqueuer", "procrastinate", "psycopg[binary,pool]")
    session.install("packaging", *postgresql, "taskiq", "taskiq-aio-pika", "taskiq-nats")
    session.run("python", "tests/queues/run.py", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Checks a default project's dependencies for known vulnerabilities. Needs the internet."""
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
    """Installs what the template's tests and every variant need, without a lock, which would name a package index.

    Yields a default project.
    """
    session.install("--group", "dev")
    with _rendered(session, "largest") as largest:
        needed = ("-r", f"{largest}/pyproject.toml", "--all-extras", "--group", f"{largest}/pyproject.toml:dev")
        session.install("--compile-bytecode", *needed)
    with _rendered(session) as project:
        yield project


@contextmanager
def _rendered(session: nox.Session, variant: str = "") -> Iterator[Path]:
    """Renders a project to a scratch folder; not below this one, whose .gitignore would hide it from linters."""
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        settings, answers = Path(scratch, "settings.yml"), Path(scratch, "answers.yml")
        project = Path(scratch, "my-bot").resolve()
        settings.write_text("{}\n")  # not the developer's own
        said = session.run("python", "tests/matrix.py", "--answers", variant, silent=True) if variant else "{}"
        answers.write_text(str(said), encoding="utf-8")
        copy = ("copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", f"--data-file={answers}")
        session.run(*copy, ".", str(project), env={"COPIER_SETTINGS_PATH": str(settings)})
        yield project


def _marked(session: nox.Session, marker: str) -> tuple[str, ...]:
    """Returns pytest's arguments for a session's tests, or with `--quick` for those that every change must pass."""
    rest = [argument for argument in session.posargs if argument != "--quick"]
    return ("-m", marker if rest == session.posargs else f"{marker} and not deep", *rest)


def _in_project(session: nox.Session, *command: str, **env: str) -> None:
    """Runs a command in the project's own environment instead of the session's."""
    session.run(*command, external=True, env={**dict.fromkeys(OF_A_SESSION), **env})


def _asked_variants(session: nox.Session) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="uvx nox -s variants --")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a variant; without any, all of them")
    parser.add_argument("--random", type=int, metavar="N", help="this many with random answers, without their suites")
    parser.add_argument("--seed", type=int, default=0, help="the seed of these answers")
    parser.add_argument("--list", action="store_true", help="only list the variants")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(session.posargs)


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
    """Serves until Ctrl-C. A server that is stopped or killed has a successor, so that people can try what survives."""
    program = project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "my-bot"
    told = _what_to_try(project, port)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script runs in the background ignores it else
    try:
        while True:
            server = subprocess.Popen([program, "serve", f"--port={port}"], cwd=project, env=_outside())
            try:
                _wait_until_up(session, server, port)
                print(f"{told}\nSERVER={server.pid}  # `kill $SERVER` stops it, and another one starts", flush=True)
                told = ""
                server.wait()
            finally:
                _end(server)
    except KeyboardInterrupt:
        session.log("Stopping.")


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends a server, unless it ends by itself: Ctrl-C reaches it as well, and a second signal would cut it off."""
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
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
    """Returns the commands of the README, with the port that is served."""
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
    """Serves a project with a superuser, no limits and cheap hashes; yields its address. It must exit with status 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with session.chdir(project):
        for command in (("uv", "sync", "--quiet", "--all-extras"), (*COMMAND, "init")):
            _in_project(session, *command)
        with Path(".env").open("a", encoding="utf-8") as env:
            env.write("DATABASE_URL=sqlite:///fuzz.db\n")
        _in_project(session, *COMMAND, "db", "upgrade")
        make = (*COMMAND, "users", "create", FUZZER, "--superuser")
        subprocess.run(make, env=_outside(), input=FUZZER_PASSWORD, text=True, check=True)
        server = subprocess.Popen([*COMMAND, "serve", f"--port={port}"], env={**_outside(), **FUZZ_SETTINGS})
    try:
        _wait_until_up(session, server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        status = server.wait()
    if status:
        session.error(f"The server ended with status {status}.")
