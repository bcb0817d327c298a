"""Adds to the OpenAPI document what FastAPI cannot see in the routers: log-in URLs, problems, docstrings of fields."""

import ast
import inspect
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app import schemas
from app.api.errors import Problem


def complete_openapi(app: FastAPI, prefix: str) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        components = document["components"]
        flow = components["securitySchemes"]["bearer"]["flows"]["password"]
        flow |= {"tokenUrl": f"{prefix}/auth/login", "refreshUrl": f"{prefix}/auth/refresh"}
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        _describe_fields(components["schemas"])
        return document

    app.openapi = openapi


def _describe_fields(components: Mapping[str, Any]) -> None:
    """Describes fields by their docstrings, which Pydantic would read from the source at each start."""
    for name, component in components.items():
        described = _field_docstrings(re.split(r"[_-]", name)[0])
        for field, schema in component.get("properties", {}).items():
            if field in described:
                schema.setdefault("description", described[field])


@cache
def _field_docstrings(name: str) -> Mapping[str, str]:
    """Returns the docstrings of the fields of a schema, by field, with those that it inherits."""
    if name not in (classes := _classes()):
        return {}
    found: dict[str, str] = {}
    for base in classes[name].bases:
        found |= _field_docstrings(ast.unparse(base).partition("[")[0])
    for field, after in pairwise(classes[name].body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(field.target)] = inspect.cleandoc(str(after.value.value))
    return found


@cache
def _classes() -> Mapping[str, ast.ClassDef]:
    modules = [ast.parse(path.read_text("utf-8")) for path in Path(*schemas.__path__).glob("*.py")]
    return {node.name: node for module in modules for node in module.body if isinstance(node, ast.ClassDef)}
