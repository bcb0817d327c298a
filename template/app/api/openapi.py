"""Adds to the OpenAPI document what FastAPI cannot see in the routers: the log-in URLs and the problem schema."""

from typing import Any

from fastapi import FastAPI

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
        return document

    app.openapi = openapi
