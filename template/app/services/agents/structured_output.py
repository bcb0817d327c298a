"""Checks the output schemas of agents, and the answers that models give to them, in processes with limits."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.core.errors import AppError, Busy, Invalid
from app.services.agents.json_schema import find_error, read_answer
from app.services.ai.schema_limits import SchemaLimits
from app.services.processes.process_pool import ProcessPool, TookTooLong, open_process_pool

MAX_RETRIES = 2
"""Limits how often a model is asked again whose answers do not fit."""
PROCESSES = 2
TRIES, AGAIN_SECONDS = 5, 1.0
"""Limits how often a check is tried that could not be made, and sets the pause before it is tried again."""
CHECK_SECONDS = 5.0
"""Limits one check: some schemas take time that doubles with each level of an answer."""


class InvalidOutput(AppError):
    """Signals that a model's answers did not fit the output schema, however often it was asked."""

    code = "invalid_output"


class OutputChecker:
    def __init__(self, processes: ProcessPool) -> None:
        self._processes = processes

    async def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raises Invalid if agents cannot have this output schema, and Busy."""
        SchemaLimits().check(schema, "The output schema")
        try:
            error = await self._processes.do(find_error, schema)
        except TookTooLong:
            error = "The output schema takes too long to check; make it simpler."
        if error is not None:
            raise Invalid(error)

    async def read_answer(self, schema: Mapping[str, Any], text: str) -> tuple[Mapping[str, Any], str | None]:
        """Returns the object that a model wrote, or a sentence that says why it does not fit the schema."""
        for _ in range(TRIES):
            try:
                return await self._processes.do(read_answer, schema, text)
            except (TookTooLong, MemoryError):
                break
            except Busy:  # too many wait, or the process died, which another one may not
                await asyncio.sleep(AGAIN_SECONDS)
        return {}, "The answer could not be checked against the output schema in time."


@asynccontextmanager
async def open_output_checker() -> AsyncGenerator[OutputChecker]:
    async with open_process_pool(PROCESSES, CHECK_SECONDS) as processes:
        yield OutputChecker(processes)


def to_json(value: Mapping[str, Any]) -> str:
    """Returns the JSON that stands for structured output wherever there is only text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
