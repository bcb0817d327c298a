"""Checks a project's image, compose.yaml and manifests. A check raises AssertionError with what it found."""

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from manifests import built, kustomizations
from processes import SCRIPTS, succeed

FROM, STAGE = re.compile(r"^--from=(\S+)"), re.compile(r" AS (\S+)$")
KUBERNETES = "1.34"
GRACE_SECONDS = 30
"""Repeats the default of SHUTDOWN_GRACE_SECONDS. Whoever stops a server must wait for more than twice that."""
LIMITS = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


@dataclass(frozen=True)
class Instruction:
    word: str
    told: str

    @property
    def command(self) -> list[str]:
        """Returns the command, which must be in exec form: a shell would not pass signals on to the program."""
        try:
            return json.loads(self.told)
        except ValueError:
            raise AssertionError(f"{self.word} {self.told} is not in exec form") from None


class Dockerfile:
    """Parses a Dockerfile into its stages, each a list of instructions that begins with its FROM."""

    def __init__(self, text: str) -> None:
        whole = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", text))
        self.instructions = [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines() if line]
        self.stages: list[list[Instruction]] = []
        for instruction in self.instructions:
            if instruction.word == "FROM":
                self.stages.append([])
            self.stages[-1].append(instruction)

    def images(self) -> set[str]:
        """Returns the images that a build pulls."""
        bases = {line.told.split()[0] for line in self.instructions if line.word == "FROM"}
        copied = {name for line in self.instructions if line.word == "COPY" for name in FROM.findall(line.told)}
        return bases | copied - {name for stage in self.stages for name in STAGE.findall(stage[0].told)}

    def last(self, word: str) -> Instruction:
        """Returns the last instruction of this kind in the final stage. Raises AssertionError when it has none."""
        found = [instruction for instruction in self.stages[-1] if instruction.word == word]
        assert found, f"the image has no {word}"
        return found[-1]

    @property
    def healthcheck(self) -> list[str]:
        _, _, command = self.last("HEALTHCHECK").told.partition("CMD ")
        return Instruction("HEALTHCHECK CMD", command).command


def environment_of(stage: list[Instruction], path: str) -> dict[str, str]:
    lines = [line for instruction in stage if instruction.word == "ENV" for line in shlex.split(instruction.told)]
    return {name: value.replace("$PATH", path) for name, _, value in (line.partition("=") for line in lines)}


def deployment(project: Path) -> None:
    if (image := project / "Dockerfile").exists():
        check_image(image.read_text(encoding="utf-8"))
    if (compose := project / "compose.yaml").exists():
        check_compose(compose.read_text(encoding="utf-8"))
    if (manifests := project / "k8s").exists():
        check_manifests(manifests)


@cache
def check_image(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(text, encoding="utf-8")
        succeed(SCRIPTS / "hadolint", "Dockerfile", cwd=Path(folder))
    file = Dockerfile(text)
    for image in sorted(file.images()):
        check_pinned(image)
    assert file.last("ENTRYPOINT").command + file.last("CMD").command
    assert file.healthcheck
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", file.last("USER").told), "Kubernetes knows root only by a numeric USER"


def check_pinned(image: str) -> None:
    tag = image.rpartition("/")[2].partition(":")[2]
    assert tag, f"{image} has no tag, which is latest"
    assert tag.split("-")[0] != "latest", f"{image} is another image tomorrow"


@cache
def check_compose(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "compose.yaml").write_text(text, encoding="utf-8")
        check = ("--builtin-schema", "vendor.compose-spec", "compose.yaml")
        succeed(SCRIPTS / "check-jsonschema", *check, cwd=Path(folder))
    told = yaml.safe_load(text)
    for name, service in told["services"].items():
        check_service(name, service, told)
    variables = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    asked = [rest for name, rest in variables if name != "PORT"]
    assert all(rest.startswith(":?") for rest in asked), "a variable has a default, or none is asked for"


def check_service(name: str, service: dict[str, Any], told: dict[str, Any]) -> None:
    check_pinned(service["image"])
    assert LIMITS.items() <= service.items(), f"{name} may do what it need not"
    assert "build" in service or service.get("user"), f"{name} is run by root"
    assert set(service.get("depends_on", {})) <= set(told["services"]), f"{name} waits for what is not there"
    for waited, how in service.get("depends_on", {}).items():
        healthy = how["condition"] != "service_healthy" or "test" in told["services"][waited].get("healthcheck", {})
        assert healthy, f"{name} waits for the health of {waited}, which has no check"
    assert {volume.split(":")[0] for volume in service["volumes"]} <= set(told["volumes"]), f"{name}: no such volume"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name} is open to the network"
    if "build" in service:
        assert int(service["stop_grace_period"].removesuffix("s")) > 2 * GRACE_SECONDS, f"{name} is killed too early"


def check_manifests(folder: Path) -> None:
    overlays = [path for path in kustomizations(folder) if path.parent.name == "overlays"]
    assert overlays
    check_manifest_texts(tuple((path.relative_to(folder), path.read_text("utf-8")) for path in files(folder)))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@cache
def check_manifest_texts(texts: tuple[tuple[Path, str], ...]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "k8s").resolve()
        for path, text in texts:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        used: set[Path] = set()
        for overlay in kustomizations(folder / "overlays"):
            objects = built(overlay, used)
            check_objects(objects)
            if shutil.which("kubectl"):
                compare_with_kustomize(overlay, objects)
        left = [str(path.relative_to(folder)) for path in files(folder) if path not in used]
        assert not left, f"no kustomization names {', '.join(left)}"


def compare_with_kustomize(overlay: Path, objects: list[dict[str, Any]]) -> None:
    """Compares the objects with those of kubectl, but for the digest in the name of the settings."""
    theirs = re.sub(r"\bsettings-\w{10}\b", "settings", succeed("kubectl", "kustomize", overlay, cwd=overlay))
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    assert {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(theirs)} == by_name


def check_objects(objects: list[dict[str, Any]]) -> None:
    settings = {}
    for found in objects:
        assert found["kind"] != "Secret", "a secret is in the repository"
        try:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{found['kind']} {found['metadata']['name']}: {error}") from None
        settings |= found["data"] if found["kind"] == "ConfigMap" else {}
    names = {(found["kind"], found["metadata"]["name"]) for found in objects}
    pods = {found["metadata"]["name"]: found["spec"]["template"] for found in objects if found["kind"] in WITH_PODS}
    for pod in pods.values():
        check_pod(pod["spec"], names, 2 * int(settings["SHUTDOWN_GRACE_SECONDS"]))
    for found in objects:
        check_references(found, names, [pod["metadata"]["labels"] for pod in pods.values()])


WITH_PODS = {"Deployment", "Job"}


def check_pod(pod: dict[str, Any], names: set[tuple[str, str]], grace: int) -> None:
    [container] = pod["containers"]
    name = container["name"]
    check_pinned(container["image"])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    rights = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == rights, f"{name} may do what it need not"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            assert ("ConfigMap", source["configMapRef"]["name"]) in names, f"{name} has no such settings"
    assert pod.get("restartPolicy") == "Never" or pod["terminationGracePeriodSeconds"] > grace, (
        f"{name} is killed early"
    )


def check_references(found: dict[str, Any], names: set[tuple[str, str]], pods: list[dict[str, str]]) -> None:
    spec, name = found.get("spec", {}), found["metadata"]["name"]
    for selector in selectors(spec):
        assert any(selector.items() <= labels.items() for labels in pods), f"{found['kind']} {name} selects nothing"
    if target := spec.get("scaleTargetRef"):
        assert (target["kind"], target["name"]) in names, f"{name} scales what is not there"
    for rule in spec.get("rules", []):
        for path in rule["http"]["paths"]:
            assert ("Service", path["backend"]["service"]["name"]) in names, f"{name} leads nowhere"


def selectors(spec: dict[str, Any]) -> Iterator[dict[str, str]]:
    for key in ("selector", "podSelector"):
        if selector := spec.get(key):
            yield selector.get("matchLabels", selector)
