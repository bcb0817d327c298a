from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _split(url: str) -> SplitResult | None:
    """Splits a URL. Returns None when it is not a web address."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _receiver(value: str) -> str:
    parts = _split(value)
    if parts is None:
        raise ValueError("name a receiver of OTLP over HTTP, such as http://localhost:4318")
    if parts.username or parts.password:
        raise ValueError("leave user and password out of it; OTEL_EXPORTER_OTLP_HEADERS is for them")
    return value


def _dsn(value: SecretStr) -> SecretStr:
    parts = _split(value.get_secret_value())
    if parts is None or not parts.username or not parts.path.strip("/").split("/")[-1].isdigit():
        raise ValueError("copy it from the project's settings in Sentry: https://key@host/number")
    return value


class TelemetrySettings(BaseSettings):
    """Reads settings under the names that OpenTelemetry and Sentry gave them; their other variables apply, too."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_receiver)] | None = None
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    otel_service_name: str | None = None
    otel_traces_exporter: Literal["otlp", "none"] = "otlp"
    otel_metrics_exporter: Literal["otlp", "none"] = "otlp"
    otel_metric_export_interval: int = Field(default=60_000, ge=100, le=3_600_000)
    otel_sdk_disabled: bool = False
    telemetry_content: bool = False
    sentry_dsn: Annotated[SecretStr, AfterValidator(_dsn)] | None = None

    @property
    def sends_traces(self) -> bool:
        return self._receiver is not None and self.otel_traces_exporter == "otlp"

    @property
    def sends_metrics(self) -> bool:
        return self._receiver is not None and self.otel_metrics_exporter == "otlp"

    @property
    def sends(self) -> bool:
        return self.sends_traces or self.sends_metrics

    @property
    def _receiver(self) -> str | None:
        return None if self.otel_sdk_disabled else self.otel_exporter_otlp_endpoint
