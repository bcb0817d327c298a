"""Tests that defects of the image, compose.yaml and the manifests are found, and that what they start works."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from conftest import Render
from container import NO_RIGHTS, Image, let_through, started
from deployment import deployment
from processes import succeed
from servers import free_port
from services import REDIS, database, databases

SECRET = "only-for-tests-0123456789-abcdefgh"
ANSWERS: dict[str, Any] = {"features": ["chat", "agents"], "ai_providers": [], "deployment": ["docker", "kubernetes"]}
DEFECTS = {
    "an image without a tag": ("Dockerfile", ":3.13-slim-trixie\nENV", "\nENV", "Always tag the version"),
    "the latest image": ("Dockerfile", "uv:0.13.9", "uv:latest", "another image tomorrow"),
    "a command in shell form": ("Dockerfile", 'CMD ["serve", "--host", "0.0.0.0"]', "CMD serve", "DL3025"),
    "a check in shell form": ("Dockerfile", 'CMD ["python", "-c", ', "CMD python -c [", "DL3025"),
    "a user with a name": ("Dockerfile", "USER 10001:10001", "USER app", "DL3066"),
    "a key that is mistyped": ("compose.yaml", "healthcheck:", "healtcheck:", "healtcheck"),
    "the latest service": ("compose.yaml", "redis:8-alpine", "redis:latest", "another image tomorrow"),
    "a service without a tag": ("compose.yaml", "postgres:18-alpine", "postgres", "no tag"),
    "a default password": ("compose.yaml", "_PASSWORD:?add", "_PASSWORD:-add", "has a default"),
    "a service that may write": ("compose.yaml", "read_only: true", "read_only: false", "need not"),
    "a port for everybody": ("compose.yaml", "127.0.0.1:${PORT:-8000}:8000", "8000:8000", "open to the network"),
    "a volume that is not there": ("compose.yaml", "  postgres:\n  redis:\n", "  postgres:\n", "no such volume"),
    "a step that is not there": ("compose.yaml", "  migrate:\n    condition", "  moved:\n    condition", "not there"),
    "a server that is killed too early": ("compose.yaml", "70s", "30s", "too early"),
    "a resource that is not there": ("k8s/base/kustomization.yaml", "service.yaml", "services.yaml", "not there"),
    "a file that nothing names": ("k8s/base/kustomization.yaml", "  - worker.yaml\n", "", "base/worker.yaml"),
    "a key that is nothing": ("k8s/base/kustomization.yaml", "resources:", "resource:", "resource is nothing"),
    "a patch of nothing": ("k8s/overlays/staging/size.yaml", "name: app", "name: api", "to change"),
    "an image of nothing": ("k8s/overlays/staging/kustomization.yaml", "name: app", "name: api", "no container"),
    "the latest manifest": ("k8s/overlays/staging/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "tomorrow"),
    "a field that is mistyped": ("k8s/base/app.yaml", "readinessProbe", "readynessProbe", "readynessProbe"),
    "a service of nothing": ("k8s/base/service.yaml", "component: app", "component: api", "selects nothing"),
    "settings that are not there": ("k8s/base/app.yaml", "name: settings", "name: setting", "no such settings"),
    "a pod that is killed too early": ("k8s/base/worker.yaml", "Seconds: 75", "Seconds: 45", "killed early"),
    "a root that may write": ("k8s/base/migrate.yaml", "readOnlyRootFilesystem: true", "privileged: true", "need not"),
    "an autoscaler of nothing": ("k8s/base/autoscaler.yaml", "    name: app", "    name: api", "scales what"),
    "an ingress to nothing": (
        "k8s/overlays/staging/ingress.yaml",
        "service:\n                name: app",
        "service:\n                name: api",
        "nowhere",
    ),
}


@pytest.fixture
def project(render: Render) -> Path:
    return render(**ANSWERS)


@pytest.mark.deep
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect: str, project: Path) -> None:
    """Asserts also that a project without a planted defect passes, as test_variants.py does for every variant."""
    deployment(project)
    name, old, new, words = DEFECTS[defect]
    path = project / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(AssertionError) as found:
        deployment(project)
    assert words in str(found.value)


def test_a_name_that_yaml_takes_for_something_else_is_a_name(render: Render) -> None:
    deployment(render(**ANSWERS, project_slug="null"))


def test_only_what_is_named_gets_into_the_image(project: Path) -> None:
    plant_what_stays_out(project)
    (project / "uv.lock").touch()
    found = let_through(project)
    assert {name.split("/")[0] for name in found} == {"alembic", "alembic.ini", "app", "pyproject.toml", "uv.lock"}
    assert {"app/defaults.env", "app/core/common_passwords.txt", "alembic/script.py.mako"} <= set(found)
    assert not [name for name in found if name.endswith((".env", ".pyc")) and name != "app/defaults.env"]


def plant_what_stays_out(project: Path) -> None:
    for name in (".env", "app/.env", ".git/config", "app.db", "mailbox/1.eml", "app/__pycache__/main.pyc", ".venv/x"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("secret", encoding="utf-8")


@pytest.mark.slow
def test_the_image_works(project: Path) -> None:
    """Runs the image's own lines without a container, and its processes as compose.yaml does, also on its database."""
    plant_what_stays_out(project)
    succeed("uv", "lock", "--quiet", "--python", sys.executable, cwd=project)
    with folder_of_an_image() as root:
        image = Image(project, root)
        image.build()
        built_then = image.contents()
        assert "Read-only" in refused(image) or "Permission denied" in refused(image)
        serves(image, project, SECRET_KEY=SECRET)
        if "postgresql" in databases():
            with database("postgresql") as url:
                cluster = {"SECRET_KEY": SECRET, "DATABASE_URL": url, "REDIS_URL": REDIS, "REDIS_PREFIX": uuid4().hex}
                serves(image, project, "worker", **cluster)
        assert image.contents() == built_then
        assert {path.name for path in root.iterdir()} == {"srv", "opt", "data", "tmp"}
        assert {path.name.split(".")[0] for path in (root / "data").iterdir()} <= {"app", "mailbox"}


@contextmanager
def folder_of_an_image() -> Iterator[Path]:
    """Yields a folder with a short path, since the shebang lines of an environment have it; removes all of it."""
    root = Path(tempfile.mkdtemp()).resolve()
    try:
        yield root
    finally:
        succeed("chmod", "-R", "u+w", root, cwd=root)
        shutil.rmtree(root)


def refused(image: Image) -> str:
    write = f"open({str(image.root / 'srv' / 'app' / 'planted')!r}, 'w')"
    done = image.run(*NO_RIGHTS, "python", "-c", write)
    assert done.returncode
    return done.stdout


def serves(image: Image, project: Path, *others: str, **settings: str) -> None:
    """Prepares the database, serves until the image's own check says so, and stops in good order."""
    services = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))["services"]
    prepared = image.run(*image.entrypoint, *services["migrate"]["command"], **settings)
    assert prepared.returncode == 0, prepared.stdout
    settings["PORT"] = str(free_port())
    check = image.file.healthcheck
    assert image.run(*check, PORT=settings["PORT"]).returncode, "the health check passes before the server is started"
    if others:
        settings["WORKER_IN_SERVER"] = services["app"]["environment"]["WORKER_IN_SERVER"]
    with ExitStack() as stack:
        server = stack.enter_context(started(image, *image.file.last("CMD").command, **settings))
        workers = [stack.enter_context(started(image, *services[name]["command"], **settings)) for name in others]
        server.wait_until(lambda: image.run(*check, PORT=settings["PORT"]).returncode == 0)
        for worker in workers:
            worker.wait_until(lambda: "Working." in worker.said())  # noqa: B023
