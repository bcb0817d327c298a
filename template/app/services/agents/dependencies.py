from dataclasses import dataclass

from app.core.database import Database
from app.core.streams.base import Events
from app.services.agents.notifier import Signals
from app.services.agents.settings import ExecutionSettings
from app.services.agents.toolbox import Toolbox
from app.services.ai import ModelGateway
from app.services.processes.process_pool import Workers
from app.services.usage.budgets import Budgets


@dataclass(slots=True)
class Means:
    """What every run works with."""

    settings: ExecutionSettings
    database: Database
    events: Events
    ai: ModelGateway
    toolbox: Toolbox
    budgets: Budgets
    signals: Signals
    workers: Workers
