from datetime import timedelta
from decimal import Decimal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.schemas.execution import Limits


class ExecutionSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    executions_per_minute: int = Field(default=60, ge=0, le=1_000_000)
    max_concurrent_executions: int = Field(default=20, ge=0, le=1_000_000)
    execution_input_max_characters: int = Field(default=32_000, ge=1, le=1_000_000)
    execution_max_steps: int = Field(default=50, ge=1, le=10_000)
    execution_max_tokens: int = Field(default=1_000_000, ge=0, le=1_000_000_000)
    execution_max_seconds: float = Field(default=3_600, gt=0, le=86_400)
    execution_max_dollars: Decimal = Field(default=Decimal(0), ge=0, le=1_000_000, decimal_places=6)
    execution_retention_days: int = Field(default=0, ge=0, le=36_500)
    approval_expire_hours: float = Field(default=168, gt=0, le=87_600)
    max_subagent_depth: int = Field(default=3, ge=0, le=100)
    worker_concurrency: int = Field(default=20, ge=1, le=10_000)

    @property
    def limits(self) -> Limits:
        return Limits(
            steps=self.execution_max_steps,
            tokens=self.execution_max_tokens,
            seconds=self.execution_max_seconds,
            dollars=self.execution_max_dollars,
        )

    @property
    def approvals_last(self) -> timedelta:
        return timedelta(hours=self.approval_expire_hours)
