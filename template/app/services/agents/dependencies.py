from dataclasses import dataclass

from app.core.database import Database
from app.core.shutdown import Shutdown
from app.core.streams.base import TextStreams
from app.services.agents.notifier import ExecutionNotifier
from app.services.agents.settings import ExecutionSettings
from app.services.agents.structured_output import OutputChecker
from app.services.agents.toolbox import Toolbox
from app.services.ai import ModelGateway
from app.services.chat.settings import ChatSettings
from app.services.processes.process_pool import ProcessPool
from app.services.usage.budgets import Budgets


@dataclass(slots=True)
class RunDependencies:
    """Holds the services that every run uses."""

    settings: ExecutionSettings
    chat_settings: ChatSettings
    """Holds the system prompt, which every model gets before the instructions of its agent, and what fits a history."""
    database: Database
    streams: TextStreams
    ai: ModelGateway
    toolbox: Toolbox
    budgets: Budgets
    notifier: ExecutionNotifier
    shutdown: Shutdown
    workers: ProcessPool
    output: OutputChecker
