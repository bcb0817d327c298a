"""Makes and calls the tools of agents. A tool is one decorated function in a module of `app/services/tools/`."""

import asyncio
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, getdoc, iscoroutinefunction, signature
from pkgutil import iter_modules
from typing import Any, get_type_hints, overload
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from pydantic_settings import BaseSettings, SettingsConfigDict
from uuid_utils.compat import uuid7

from app.core.database import Database
from app.core.errors import AppError, SetupError
from app.models.tool import Policy
from app.services.processes.process_pool import ProcessPool

FLAWS_TOLD = 5
NAME = re.compile(r"[a-zA-Z]\w{0,63}", re.ASCII)
"""Matches the tool names that every provider accepts."""
NAMED = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
PLACE = "app.services.tools"

Function = Callable[..., Awaitable[str]]

log = structlog.stdlib.get_logger("app.tools")


class ToolSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    tool_timeout_seconds: float = Field(default=30, ge=0, le=3_600)
    tool_result_max_characters: int = Field(default=20_000, ge=0, le=10_000_000)


class ToolError(Exception):
    """Signals that a tool did not do what was asked. The message is a plain sentence for the model."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Tells for whom and in which execution a tool is called. The model cannot change any of it."""

    user_id: UUID
    execution_id: UUID
    idempotency_key: str
    """Stays the same when this call is repeated because nobody knows whether it had its effect."""
    database: Database
    workers: ProcessPool
    """Runs work in other processes that is heavy, or reads what strangers wrote."""
    row_id: UUID = field(default_factory=uuid7)
    """Gives the row that this call stores its id, which stays the same, too, and sorts like those of all other rows."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    input_schema: Mapping[str, Any]
    policy: Policy
    """Applies to agents that set no other policy."""
    _function: Function = field(repr=False)
    _arguments: type[BaseModel] = field(repr=False)
    _wants_context: bool = field(repr=False)

    async def call(self, context: ToolContext, arguments: str) -> str:
        """Calls the function with `arguments`, the JSON text that the model wrote. Raises ToolError."""
        try:
            values = self._values(arguments)
            return await self._function(*([context] if self._wants_context else []), **values)
        except ToolError:
            raise
        except AppError as error:
            raise ToolError(str(error)) from None
        # The model can go on without this result, and the text of an unexpected error is not meant for it.
        except Exception as error:
            log.error("tool failed", tool=self.name, execution_id=str(context.execution_id), **_facts(error))
            raise ToolError("The tool failed.") from None

    def _values(self, arguments: str) -> dict[str, Any]:
        try:
            return dict(self._arguments.model_validate_json(arguments.strip() or "{}"))
        except ValidationError as error:
            raise ToolError(f"The arguments are refused: {_flaws(error)}.") from None


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Holds every tool by its name, and the limits that apply to all of them."""

    tools: Mapping[str, Tool]
    _settings: ToolSettings

    async def call(self, name: str, context: ToolContext, arguments: str) -> str:
        """Returns the result of a tool, cut to the length that a model may read. Raises ToolError."""
        try:
            return self.shorten(await self._answer(name, context, arguments))
        except ToolError as error:
            raise ToolError(self.shorten(str(error))) from None

    async def _answer(self, name: str, context: ToolContext, arguments: str) -> str:
        if name not in self.tools:
            raise ToolError(f"There is no tool named {name}.")
        seconds = self._settings.tool_timeout_seconds
        try:
            async with asyncio.timeout(seconds or None):
                return await self.tools[name].call(context, arguments)
        except TimeoutError:
            raise ToolError(f"The tool was stopped after {seconds:g} seconds.") from None

    def shorten(self, text: str) -> str:
        """Replaces what a database cannot store, and cuts the text to its maximum length."""
        text = text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        limit = self._settings.tool_result_max_characters
        return text if not limit or len(text) <= limit else f"{text[:limit]}\n[The rest is left out.]"


def open_tools(settings: ToolSettings) -> Toolbox:
    """Loads every tool. Raises SetupError."""
    return Toolbox(registry(), settings)


def registry() -> Mapping[str, Tool]:
    """Returns every tool of the modules in `app/services/tools/`, by name.

    A module whose tools need something first, such as settings, makes them in a function `make_tools`. Raises
    SetupError.
    """
    found: dict[str, Tool] = {}
    for one in _all():
        if found.setdefault(one.name, one) is not one:
            raise SetupError(f"Two tools are named {one.name}: rename one of these functions in app/services/tools.")
    return found


def _all() -> Iterator[Tool]:
    for found in iter_modules(import_module(PLACE).__path__):
        names = vars(import_module(f"{PLACE}.{found.name}"))
        yield from (value for value in names.values() if isinstance(value, Tool))
        if "make_tools" in names:
            yield from names["make_tools"]()


@overload
def tool(function: Function, /) -> Tool: ...


@overload
def tool(*, policy: Policy = Policy.allow) -> Callable[[Function], Tool]: ...


def tool(function: Function | None = None, /, *, policy: Policy = Policy.allow) -> Tool | Callable[[Function], Tool]:
    """Makes a tool of an asynchronous function with annotated parameters that returns text.

    The model reads its name, the first paragraph of its docstring, and a schema of its parameters, which may be
    `Annotated[..., Field(description=...)]`. The service, not the model, fills a first parameter of type ToolContext.
    The function raises ToolError to tell the model why it failed. Raises SetupError.
    """
    return _made(function, policy) if function else lambda function: _made(function, policy)


def _made(function: Function, policy: Policy) -> Tool:
    parameters, hints = _parameters(function), get_type_hints(function, include_extras=True)
    name, description = function.__name__, " ".join((getdoc(function) or "").partition("\n\n")[0].split())
    annotated = hints.keys() >= {parameter.name for parameter in parameters} and hints.get("return") is str
    if not (NAME.fullmatch(name) and description and annotated and iscoroutinefunction(function)):
        raise SetupError(f"{name} is no tool: make it `async def … -> str`, with a docstring and annotated parameters.")
    wants_context = bool(parameters) and hints[parameters[0].name] is ToolContext
    arguments = _model(name, parameters[wants_context:], hints)
    return Tool(name, description, _schema(arguments), policy, function, arguments, wants_context)


def _parameters(function: Function) -> Sequence[Parameter]:
    """Returns the parameters. Raises SetupError for one that cannot be passed by name, as a model passes them."""
    parameters = list(signature(function).parameters.values())
    if odd := [found.name for found in parameters if found.kind not in NAMED]:
        raise SetupError(f"The parameter {odd[0]} of the tool {function.__name__} cannot be passed by its name.")
    return parameters


def _model(name: str, parameters: Sequence[Parameter], hints: Mapping[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        found.name: (hints[found.name], ... if found.default is Parameter.empty else found.default)
        for found in parameters
    }
    return create_model(name, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


def _schema(arguments: type[BaseModel]) -> Mapping[str, Any]:
    schema = arguments.model_json_schema(schema_generator=_Plain)
    del schema["title"]
    return schema


class _Plain(GenerateJsonSchema):
    """Leaves out titles, and the null type of optional parameters: not every provider accepts a union of types."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return (
            super().default_schema(schema)
            if schema.get("default") is not None
            else self.generate_inner(schema["schema"])
        )


def _flaws(error: ValidationError) -> str:
    flaws = error.errors(include_url=False, include_context=False, include_input=False)[:FLAWS_TOLD]
    return "; ".join(": ".join([*map(str, flaw["loc"]), _reason(flaw["msg"])]) for flaw in flaws)


def _reason(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _facts(error: Exception) -> dict[str, object]:
    """Returns what a log may say of an error, whose text may quote what a person told a model."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": type(error).__name__, "where": f"{frame.filename}:{frame.lineno}"}
