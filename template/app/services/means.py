from dataclasses import dataclass

from app.core.database import Database
from app.core.events import Events
from app.services.ai import ModelGateway
from app.services.budgets import Budgets
from app.services.execution_settings import ExecutionSettings
from app.services.signals import Signals
from app.services.toolbox import Toolbox
from app.services.workers import Workers


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
