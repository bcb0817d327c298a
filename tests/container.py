"""Runs the steps of a Dockerfile without a container, in a folder that stands for the root of the image.

The user of the tests stands for the image's user; root loses its capabilities, as with `cap_drop`. Programs have only
the environment that the image sets. Python is this machine's, of the image's version where there is one.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deployment import GRACE_SECONDS, Dockerfile, Instruction, environment_of
from processes import interpreter, succeed

SYSTEM = "/usr/local/bin:/usr/bin:/bin"
OF_UV = re.compile(r"SSL_CERT_|UV_.*INDEX|UV_SYSTEM_CERTS$|\w+_proxy$|\w+_PROXY$")
"""Matches the variables that say how this machine gets packages."""
PLACES = re.compile(r"/(?=(?:srv|opt|data|tmp)(?![\w-]))")
NO_RIGHTS = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()


class Image:
    def __init__(self, project: Path, root: Path) -> None:
        self.root, self._project = root, project
        self.file = Dockerfile((project / "Dockerfile").read_text(encoding="utf-8"))
        for place in ("srv", "opt", "data", "tmp"):
            (root / place).mkdir()

    def build(self) -> None:
        for stage in self.file.stages:
            for instruction in stage:
                if instruction.word == "RUN":
                    self._run(instruction.told, stage)
                elif instruction.word == "COPY":
                    self._copy(instruction.told)
        for place in ("srv", "opt"):
            succeed("chmod", "-R", "a-w", self.root / place, cwd=self.root)

    @property
    def environment(self) -> dict[str, str]:
        return {name: self.here(value) for name, value in environment_of(self.file.stages[-1], SYSTEM).items()}

    @property
    def entrypoint(self) -> list[str]:
        return [*NO_RIGHTS, *self.file.last("ENTRYPOINT").command]

    def here(self, text: str) -> str:
        return PLACES.sub(f"{self.root}/", text)

    def contents(self) -> set[tuple[str, int]]:
        """Returns the paths and modification times of all that is in the folders which must not be written to."""
        found = [path for place in ("srv", "opt") for path in (self.root / place).rglob("*")]
        return {(str(path), path.lstat().st_mtime_ns) for path in found}

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end; output and errors come as one text."""
        return subprocess.run(
            command,
            cwd=self.root / "srv",
            env=self.environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _run(self, told: str, stage: list[Instruction]) -> None:
        command = re.sub(r"--mount=\S+ ", "", told).strip()
        command = command.replace("-o 10001 -g 10001", f"-o {os.geteuid()} -g {os.getegid()}")
        self._succeed(["sh", "-euc", self.here(command)], self._while_building(stage))

    def _succeed(self, command: list[str], environment: dict[str, str]) -> None:
        done = subprocess.run(
            command, cwd=self.root / "srv", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _while_building(self, stage: list[Instruction]) -> dict[str, str]:
        """Returns the environment of a build step. The mounted cache is this machine's cache of uv."""
        python, uv = interpreter(_version(stage)), shutil.which("uv")
        assert uv
        path = f"{Path(uv).parent}:{Path(python).parent}:{SYSTEM}"
        told = {name: self.here(value) for name, value in environment_of(stage, path).items()}
        cache = succeed("uv", "cache", "dir", cwd=self.root).splitlines()[-1]
        ours = {name: value for name, value in os.environ.items() if OF_UV.match(name)}
        return {"PATH": path, "HOME": str(self.root / "tmp"), "UV_CACHE_DIR": cache, "UV_PYTHON": python} | ours | told

    def _copy(self, told: str) -> None:
        if told.startswith("--from="):
            return  # uv is installed here, and all stages share one folder
        *names, _ = shlex.split(told)
        for path in let_through(self._project):
            if names == ["."] or path in names:
                target = self.root / "srv" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self._project / path, target)


def _version(stage: list[Instruction]) -> str:
    [version] = re.findall(r"python:([\d.]+)", stage[0].told)
    return version


def let_through(project: Path) -> list[str]:
    """Lists the files that .dockerignore lets into a build. The last line that matches a path decides."""
    lines = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [(not line.startswith("!"), _pattern(line.removeprefix("!"))) for line in lines if line and line[0] != "#"]
    names = [path.relative_to(project).as_posix() for path in sorted(project.rglob("*")) if path.is_file()]
    return [name for name in names if not _ignored(name, rules)]


def _ignored(name: str, rules: list[tuple[bool, re.Pattern[str]]]) -> bool:
    said = [ignored for ignored, pattern in rules if pattern.match(name)]
    return bool(said) and said[-1]


def _pattern(line: str) -> re.Pattern[str]:
    """Returns a pattern of a path and of everything below it."""
    parts = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    pattern = re.sub(r"\*\*/|\*|\?|[^*?\[\]]+", lambda found: parts.get(found[0]) or re.escape(found[0]), line)
    return re.compile(rf"{pattern}(?:/.*)?\Z")


@dataclass
class Process:
    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Polls `ready`, as Docker does. Raises AssertionError when the process ends first, or after 120 s."""
        until = time.monotonic() + 120
        while not ready():
            assert time.monotonic() < until, self.said()
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"the process ended with {self.process.wait(timeout=0.5)}: {self.said()}")


@contextmanager
def started(image: Image, *command: str, **settings: str) -> Iterator[Process]:
    """Starts a process of the image. At the end it gets SIGTERM, and must exit with 0 within the grace period."""
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [*image.entrypoint, *command],
            cwd=image.root / "srv",
            env=image.environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield (running := Process(process, Path(log.name)))
            process.terminate()
            assert process.wait(timeout=GRACE_SECONDS) == 0, running.said()
        finally:
            process.kill()
            process.wait()
