"""Registers background jobs. A job is one decorated function in a module of `app/jobs/`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, iscoroutinefunction, signature
from typing import Any, ParamSpec, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticSerializationError

from app.core.errors import SetupError

DEFAULT_QUEUE = "default"
PAUSES = (1.0, 10.0, 60.0, 600.0, 3_600.0)
"""Lists the seconds before a failed job runs again; the last one repeats."""
MAX_ARGUMENT_CHARACTERS = 1_000_000
MAX_NAME_CHARACTERS, MAX_QUEUE_CHARACTERS = 100, 32

P = ParamSpec("P")
Function = Callable[P, Awaitable[None]]


class JobFailed(Exception):
    """Signals that an attempt failed for a reason that is known. The message goes to the log, without a traceback."""


class JobInterrupted(Exception):
    """Signals that the process stops before the job is done, which goes back to the queue for another process."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """Gives a job what the application opened when it started, and tells which attempt this is."""

    state: Any
    """Holds the same as `request.app.state`: `database`, `ai`, `emails` and what the features open."""
    attempt: int
    """Counts from 1. An attempt whose process died counts, too."""


@dataclass(frozen=True, slots=True)
class Job:
    """Represents a registered function and how it is run."""

    name: str
    queue: str
    attempts: int | None
    timeout: float | None
    every: float | None
    place: str
    """Names the module that defines it."""
    _function: Callable[..., Awaitable[None]]
    _arguments: type[BaseModel]

    def dump_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments as JSON, in which they are stored.

        Raises TypeError for those that the job does not take, or that would not be the same when they are read again.
        """
        try:
            given = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise TypeError(f"The job {self.name} does not take these arguments: {_flaws(error)}.") from None
        try:
            text = json.dumps(given.model_dump(mode="json"), allow_nan=False)
            is_same = self._arguments.model_validate_json(text) == given
        except (PydanticSerializationError, ValueError):
            text, is_same = "", False
        if not is_same:
            raise TypeError(f"The arguments of the job {self.name} would not be the same after being stored as JSON.")
        if len(text) > MAX_ARGUMENT_CHARACTERS:
            raise TypeError(f"The arguments of the job {self.name} exceed {MAX_ARGUMENT_CHARACTERS} characters.")
        return json.loads(text)

    async def run(self, context: JobContext, arguments: Mapping[str, Any]) -> None:
        """Runs the function with stored arguments. Raises JobFailed when they do not fit, and what the function raises.

        They do not fit when the function was changed after they had been stored.
        """
        try:
            given = self._arguments.model_validate_json(json.dumps(arguments))
        except ValidationError as error:
            raise JobFailed(f"its stored arguments do not fit: {_flaws(error)}") from None
        await self._function(context, **dict(given))


jobs: dict[str, Job] = {}
"""Holds every job by its name."""


@overload
def job(function: Function[P]) -> Function[P]: ...


@overload
def job(
    *, queue: str = ..., attempts: int | None = ..., timeout: float | None = ..., every: float | None = ...
) -> Callable[[Function[P]], Function[P]]: ...


def job(
    function: Function[P] | None = None,
    *,
    queue: str = DEFAULT_QUEUE,
    attempts: int | None = len(PAUSES) + 1,
    timeout: float | None = 900,
    every: float | None = None,
) -> Function[P] | Callable[[Function[P]], Function[P]]:
    """Registers an async function as a job under its name; it takes a JobContext and arguments by name.

    It runs at least once: again after it raised anything, after `timeout` seconds, and after its process died, up to
    `attempts` times; None sets no limit. With `every`, it takes no arguments and runs again after so many seconds,
    in one process at a time. Each queue has slots of its own. Raises SetupError for what cannot be a job.
    """

    def register(function: Function[P]) -> Function[P]:
        name, place = function.__name__, function.__module__
        wrong = _first_flaw(function, queue, attempts, timeout, every)
        if name in jobs:
            wrong = f"there is another one of this name in {jobs[name].place}"
        if wrong:
            raise SetupError(f"The job {name} in {place}: {wrong}.")
        jobs[name] = Job(name, queue, attempts, timeout, every, place, function, _arguments_of(function))
        return function

    return register if function is None else register(function)


def find_job(name: str) -> Job:
    """Returns a job. Raises LookupError when no module of `app/jobs/` defines it."""
    if name not in jobs:
        raise LookupError(f"There is no job {name}: define it in a module of app/jobs/.")
    return jobs[name]


def _first_flaw(
    function: Callable[..., Any], queue: str, attempts: int | None, timeout: float | None, every: float | None
) -> str:
    """Returns why the function cannot be a job, or an empty text."""
    named = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
    first, *others = [*signature(function).parameters.values(), None]
    flaws = {
        "it must be an async function": not iscoroutinefunction(function),
        "its first parameter must be a JobContext": first is None or first.kind not in named - {Parameter.KEYWORD_ONLY},
        "its arguments must have names": any(other.kind not in named for other in others if other),
        "a job that repeats takes no arguments": every is not None and len(others) > 1,
        "every, timeout and attempts must be above 0": any(
            n is not None and n <= 0 for n in (every, timeout, attempts)
        ),
        f"its name has at most {MAX_NAME_CHARACTERS} characters": len(function.__name__) > MAX_NAME_CHARACTERS,
        f"its queue has at most {MAX_QUEUE_CHARACTERS} characters": not 0 < len(queue) <= MAX_QUEUE_CHARACTERS,
    }
    return next((flaw for flaw, is_there in flaws.items() if is_there), "")


def _arguments_of(function: Callable[..., Any]) -> type[BaseModel]:
    """Makes a model of the arguments, all but the first, with the types that the function declares."""
    try:
        types = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise SetupError(f"The job {function.__name__} in {function.__module__}: {error}.") from None
    _, *parameters = signature(function).parameters.values()
    fields: dict[str, Any] = {
        parameter.name: (
            types.get(parameter.name, Any),
            ... if parameter.default is Parameter.empty else parameter.default,
        )
        for parameter in parameters
    }
    how = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(function.__name__, __config__=how, **fields)


def _flaws(error: ValidationError) -> str:
    """Returns what is wrong with each argument, without the values, which may be a person's words."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, flaw['loc']))}: {flaw['msg']}" for flaw in found)
