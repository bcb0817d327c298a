"""Builds what kustomize makes of a folder, as far as the template's manifests use it. Any other key is refused.

There is no kustomize among Python's packages; where kubectl is installed, a test compares this with it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KEYS = {
    *("apiVersion", "kind", "configMapGenerator", "images", "labels", "namespace", "patches", "resources"),
}
Object = dict[str, Any]


def kustomizations(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("kustomization.yaml"))


def built(folder: Path, used: set[Path]) -> list[Object]:
    """Returns the objects of a kustomization, and adds the files that it reads to `used`."""
    told = _read(folder / "kustomization.yaml", used)[0]
    assert told.keys() <= KEYS, f"{folder}: {', '.join(told.keys() - KEYS)} is nothing that is known"
    objects = [found for name in told["resources"] for found in _resource(folder / name, used)]
    for generator in told.get("configMapGenerator", []):
        _configure(objects, generator)
    for patch in told.get("patches", []):
        for change in _read(folder / patch["path"], used):
            _merge(_target(objects, change), change)
    for image in told.get("images", []):
        _set_image(objects, image)
    for found in objects:
        _finish(found, told)
    return objects


def _resource(path: Path, used: set[Path]) -> list[Object]:
    return built(path.resolve(), used) if path.is_dir() else _read(path, used)


def _read(path: Path, used: set[Path]) -> list[Object]:
    assert path.is_file(), f"{path.name} is named, and not there"
    used.add(path)
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _configure(objects: list[Object], told: Object) -> None:
    data = dict(line.split("=", 1) for line in told["literals"])
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": told["name"]}, "data": data}
    made["metadata"]["labels"] = told.get("options", {}).get("labels", {})
    if told.get("behavior") == "merge":
        _target(objects, made)["data"].update(data)
    else:
        objects.append(made)


def _target(objects: list[Object], change: Object) -> Object:
    key = (change["kind"], change["metadata"]["name"])
    found = [one for one in objects if (one["kind"], one["metadata"]["name"]) == key]
    assert len(found) == 1, f"there is no {' '.join(key)} to change"
    return found[0]


def _merge(target: Object, change: Object) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _set_image(objects: list[Object], told: Object) -> None:
    meant = [found for found in containers(objects) if found["image"].split(":")[0] == told["name"]]
    assert meant, f"no container has the image {told['name']}"
    for found in meant:
        found["image"] = f"{told['newName']}:{told['newTag']}"


def containers(objects: list[Object]) -> Iterator[Object]:
    for found in objects:
        yield from found.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def _finish(found: Object, told: Object) -> None:
    if "namespace" in told:
        found["metadata"]["namespace"] = told["namespace"]
    for label in told.get("labels", []):
        found["metadata"].setdefault("labels", {}).update(label["pairs"])
        for labels in _places(found) if label["includeSelectors"] else ():
            labels.update(label["pairs"])


def _places(found: Object) -> Iterator[dict[str, str]]:
    """Yields the labels that select objects, and those that are selected."""
    spec = found.get("spec", {})
    if found["kind"] == "Service":
        yield spec["selector"]
    if "template" in spec:
        yield spec["template"]["metadata"]["labels"]
    for key in ("selector", "podSelector"):
        if "matchLabels" in spec.get(key, {}):
            yield spec[key]["matchLabels"]
    for spread in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", []):
        yield spread["labelSelector"]["matchLabels"]
