"""Reads the settings that an operator may change. Features keep theirs in a small class in their own files."""

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from dotenv import load_dotenv
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_core import Url
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.core.commands import full_command
from app.core.email_domains import reserved_domain
from app.core.errors import SetupError
from app.core.postgresql_url import NO_URL, read_postgresql_url

ROOT = Path(__file__).resolve().parents[2]
ENV_FILE = ROOT / ".env"
DEFAULTS_FILE = ROOT / "app" / "defaults.env"

DEVELOPMENT_ORIGINS = [f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173, 8080)]
"""Lists the addresses at which usual development servers of front ends have their pages."""

_POSTGRESQL, _SQLITE = {"postgres", "postgresql", "postgresql+asyncpg"}, {"sqlite", "sqlite+aiosqlite"}

_OTHER_NAMES = {
    "azure": {"api_key": "AZURE_OPENAI_API_KEY", "base_url": "AZURE_OPENAI_ENDPOINT"},
    "bedrock": {"api_key": "AWS_BEARER_TOKEN_BEDROCK"},
    "cohere": {"api_key": "CO_API_KEY", "base_url": "CO_BASE_URL"},
    "heroku": {"api_key": "HEROKU_INFERENCE_KEY", "base_url": "HEROKU_INFERENCE_URL"},
    "huggingface": {"api_key": "HF_TOKEN"},
    "vercel": {"api_key": "VERCEL_AI_GATEWAY_API_KEY"},
}
"""Maps fields to the variables of providers that are not named `<PROVIDER>_<FIELD>`."""
_ATOM = r"[A-Za-z0-9#$&'*+/=^_`{|}~-]+"
"""Matches a part of an e-mail address, without the characters of source routes and encoded words."""


def _secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().strip().encode()) < 32:
        raise ValueError(f"at least 32 bytes are needed; {full_command('init')} writes a random one to .env")
    return value


def _origins(value: Any) -> Any:
    origins = [origin.strip() for origin in value.split(",")] if isinstance(value, str) else value
    if "*" in origins:
        raise ValueError("name each origin; * would let every web page use its visitors' accounts")
    for origin in filter(None, origins):
        if origin == "null" or origin.startswith("file:"):
            raise ValueError(f"{origin} is what pages without an origin send, which anyone can make: name an origin")
        if (right := _serialized(re.sub(r"(?i)^ws(s?)://", r"http\1://", origin))) is None:
            raise ValueError(f"{origin} is not an origin such as https://app.example or capacitor://localhost")
        if origin != right:
            raise ValueError(f"write {right}, as browsers do, and not {origin}")
    return [origin for origin in origins if origin]


def _serialized(origin: str) -> str | None:
    """Returns an origin as browsers send it. Returns None when there is none."""
    try:
        url = Url(origin)
    except ValueError:
        return None
    host = (url.host or "").lower()
    if not re.fullmatch(r"[a-z0-9._~-]+|\[[0-9a-f:.]+\]", host):
        return None
    port = None if url.port == {"http": 80, "https": 443}.get(url.scheme) else url.port
    return f"{url.scheme}://{host}{f':{port}' if port else ''}"


def _hosts(value: list[str]) -> list[str]:
    for host in value:
        wildcard, name = ("*.", host[2:]) if host.startswith("*.") else ("", host)
        right = re.fullmatch(r"[^\s/:?#@*\[\]]+|\[[0-9A-Fa-f:.]+\]", name) and _serialized(f"https://{name}")
        if host != "*" and not right:
            raise ValueError(f"{host} is not a host such as api.example or *.example; leave out scheme and port")
        if right and right != f"https://{name.lower()}":
            raise ValueError(f"write {wildcard}{right.removeprefix('https://')}, as browsers do, and not {host}")
    return value


def _root_path(value: str) -> str:
    path = value.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
        raise ValueError("write the prefix alone, as in /bot")
    return path


def _prefix(value: str) -> str:
    if value.split("/")[1] in {"health", "docs", "openapi.json"}:
        raise ValueError("the application uses this path itself; choose another one")
    return value


def _split(url: str) -> SplitResult | None:
    """Splits a URL. Returns None when it names no host."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _smtp_url(value: SecretStr) -> SecretStr:
    parts = _split(value.get_secret_value())
    if parts is None or parts.scheme not in {"smtp", "smtps", "smtp+starttls"}:
        raise ValueError("use smtps://user:password@host, smtp+starttls://user:password@host:587 or smtp://host:25")
    if parts.scheme == "smtp" and parts.password:
        raise ValueError("smtp:// would send the password unencrypted; use smtps:// or smtp+starttls://")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    parts = _split(value.get_secret_value())
    if parts is None or parts.scheme not in {"redis", "rediss"} or not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("use redis://host:6379/0, or rediss:// for TLS")
    return value


def _list(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _networks(value: list[str]) -> list[str]:
    try:
        return [str(ip_network(item)) for item in value]
    except ValueError:
        raise ValueError("name addresses or networks, such as 10.0.0.1 or 10.0.0.0/8, separated by commas") from None


def _one_line(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        raise ValueError("it must be one line without control characters")
    return value


def _sender(value: str) -> str:
    if not re.fullmatch(rf"{_ATOM}(\.{_ATOM})*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value):
        raise ValueError("this is not an e-mail address")
    return value


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("it must begin with https:// or http:// and have no query")
    return value.rstrip("/")


def _api_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not re.fullmatch(r"[!-~]+", key) or re.search("[\"']", key):
        raise ValueError("an API key has letters, digits and signs, and no spaces or quotes; copy it again")
    return value


def _token_budget(value: int, info: ValidationInfo) -> int:
    if 0 < value < info.data.get("ai_max_output_tokens", 0):
        raise ValueError("use 0 for no limit, or at least AI_MAX_OUTPUT_TOKENS, which one answer may need")
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _database_url(value: Any) -> URL:
    """Chooses the async driver, and resolves a relative SQLite path from the project's root, not the current folder."""
    text = value if isinstance(value, str) else value.render_as_string(hide_password=False)
    driver = text.partition("://")[0]
    if "://" not in text:
        raise ValueError(NO_URL)
    if driver in _POSTGRESQL:
        return read_postgresql_url(text, ROOT)
    if driver.startswith("postgres"):
        raise ValueError(f"write postgresql:// and not {driver}://, since the driver is asyncpg")
    if driver not in _SQLITE:
        raise ValueError("use postgresql://… or sqlite:///…")
    try:
        return _sqlite_url(make_url(text).set(drivername="sqlite+aiosqlite"))
    except ArgumentError:
        raise ValueError(NO_URL) from None


def _sqlite_url(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:") or url.query:
        raise ValueError("name a file and nothing else, such as sqlite:///app.db")
    return url.set(database=str(ROOT / url.database))


TokenBudget = Annotated[int, Field(ge=0, le=1_000_000_000_000), AfterValidator(_token_budget)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
ReservedName = Annotated[str, AfterValidator(reserved_domain)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
DollarBudget = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class Settings(BaseSettings):
    """Reads each field from the environment variable of the same name in upper case."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, arbitrary_types_allowed=True)

    app_name: Annotated[str, AfterValidator(_one_line)] = "App"
    app_description: str = ""
    environment: Literal["local", "staging", "production"] = "local"
    secret_key: Annotated[SecretStr, AfterValidator(_secret)]

    database_url: Annotated[URL, NoDecode, BeforeValidator(_database_url)] = Field(
        default="sqlite:///app.db", validate_default=True
    )
    database_pool_size: int = Field(default=20, ge=1, le=1_000)
    database_max_overflow: int = Field(default=0, ge=0, le=1_000)
    database_statement_timeout: float = Field(default=30, ge=0, le=86_400)
    database_lock_timeout: float = Field(default=5, ge=0, le=3_600)
    database_echo: bool = False
    database_pooler: bool = False

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    redis_prefix: str = Field(default="app", pattern=r"^[A-Za-z0-9_.:-]+$")

    trusted_hosts: Annotated[list[str], NoDecode, BeforeValidator(_list), AfterValidator(_hosts)] = ["*"]
    trusted_proxies: Annotated[list[str], NoDecode, BeforeValidator(_list), AfterValidator(_networks)] = []
    allowed_origins: Annotated[list[str], NoDecode, BeforeValidator(_origins)] = []
    api_v1_prefix: Annotated[str, AfterValidator(_prefix)] = Field(default="/api/v1", pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    root_path: Annotated[str, AfterValidator(_root_path)] = ""
    port: int = Field(default=8000, ge=0, le=65_535)
    keep_alive_seconds: int = Field(default=75, ge=1, le=86_400)
    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=1_073_741_824)
    shutdown_grace_seconds: float = Field(default=30, ge=0, le=86_400)

    worker_in_server: bool = True
    job_concurrency: int = Field(default=10, ge=1, le=10_000)

    sockets_per_user: int = Field(default=20, ge=0, le=100_000)
    socket_max_frame_bytes: int = Field(default=524_288, ge=1024, le=16_777_216)
    socket_ping_interval: float = Field(default=20, gt=0, le=3_600)
    socket_send_timeout: float = Field(default=30, gt=0, le=3_600)

    requests_per_minute: int = Field(default=1_000, ge=0, le=1_000_000)
    login_attempts_per_minute: int = Field(default=60, ge=0, le=1_000_000)
    login_failures_per_hour: int = Field(default=50, ge=0, le=1_000_000)
    registrations_per_hour: int = Field(default=60, ge=0, le=1_000_000)
    mails_per_hour: int = Field(default=10, ge=0, le=1_000_000)

    registration_open: bool = True
    verified_email_required: bool = False
    access_token_expire_minutes: int = Field(default=30, ge=1, le=525_600)
    refresh_token_expire_days: int = Field(default=30, ge=1, le=3_650)
    session_max_days: int = Field(default=180, ge=1, le=3_650)
    argon2_time_cost: int = Field(default=3, ge=1, le=100)
    argon2_memory_kib: int = Field(default=65_536, ge=32, le=4_194_304)

    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = None
    mail_from: Annotated[str, AfterValidator(_sender)] = "noreply@localhost"
    mailbox_folder: str = "mailbox"
    app_url: WebAddress = "http://localhost:3000"
    email_reserved_domains: Annotated[list[ReservedName], NoDecode, BeforeValidator(_list)] = []
    email_token_expire_minutes: int = Field(default=60, ge=1, le=525_600)

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    log_format: Literal["auto", "console", "json"] = "auto"

    ai_model: str = "demo"
    ai_allowed_models: Annotated[list[str], NoDecode, BeforeValidator(_list)] = []
    ai_fallback_models: Annotated[list[str], NoDecode, BeforeValidator(_list)] = []
    ai_timeout: float = Field(default=60, gt=0, le=3_600)
    ai_max_retries: int = Field(default=2, ge=0, le=10)
    ai_max_output_tokens: int = Field(default=8_192, ge=1, le=1_000_000)
    demo_model_delay: float = Field(default=0.03, ge=0, le=60)

    tokens_per_day: TokenBudget = 0
    tokens_per_month: TokenBudget = 0
    dollars_per_day: DollarBudget = Decimal(0)
    dollars_per_month: DollarBudget = Decimal(0)

    @property
    def origins(self) -> list[str]:
        """Lists the origins of the web pages that may call the API."""
        return [*self.allowed_origins, *(DEVELOPMENT_ORIGINS if self.environment == "local" else ())]


S = TypeVar("S", bound=BaseSettings)


class ProviderSettings(BaseModel):
    """Holds the API key and the base URL of one provider."""

    api_key: ApiKey | None = None
    base_url: WebAddress | None = None


def load_environment() -> None:
    """Fills the environment from `.env`, then `defaults.env`; variables that are set stay. Raises SetupError.

    The files go into the environment because libraries read some of their own variables only from there.
    """
    for path in (ENV_FILE, DEFAULTS_FILE):
        if path.is_dir():  # as Docker makes one of a file to mount that is not there
            raise SetupError(f"{path} cannot be read: it is a folder and must be a file, so delete it.")
        try:
            load_dotenv(path, interpolate=False)
        except UnicodeEncodeError:
            advice = "set LANG to one in UTF-8, or PYTHONUTF8=1"
            raise SetupError(f"{path} has letters that the locale lacks: {advice}.") from None
        except ValueError:
            raise SetupError(f"{path} cannot be read: it must be a text file in UTF-8.") from None
        except OSError as error:
            raise SetupError(f"{path} cannot be read ({error.strerror}).") from None


def read_settings(kind: type[S]) -> S:
    """Reads one class of settings. Raises SetupError with one sentence for each setting that is wrong.

    The sentences leave out the values, some of which are secret.
    """
    for name in map(str.upper, kind.model_fields):
        if name in os.environ:
            os.environ[name] = _bare(os.environ[name])
    try:
        return kind()
    except ValidationError as error:
        raise SetupError(_sentences(error, {})) from None


def read_provider_settings(provider: str) -> ProviderSettings:
    """Reads `OPENAI_API_KEY` and `OPENAI_BASE_URL` for `openai`, and so on. Raises SetupError like `read_settings`."""
    names = {field: f"{provider}_{field}".upper() for field in ProviderSettings.model_fields}
    names |= _OTHER_NAMES.get(provider, {})
    try:
        given = {field: os.environ[name] for field, name in names.items() if os.environ.get(name)}
        return ProviderSettings.model_validate({field: _bare(value) for field, value in given.items()})
    except ValidationError as error:
        raise SetupError(_sentences(error, names)) from None


def _bare(value: str) -> str:
    """Strips the white space and the quotes that come along when a value is copied, or read from a file."""
    return re.sub(r"""^(["'])(.*)\1$""", r"\2", value.strip()).strip()


def _sentences(error: ValidationError, names: Mapping[str, str]) -> str:
    found = ((str(item["loc"][0]), item["msg"]) for item in error.errors())
    return " ".join(_sentence(names.get(field, field.upper()), message) for field, message in found)


def _sentence(name: str, message: str) -> str:
    message = message.removeprefix("Value error, ").rstrip(".")
    if message == "Field required":
        message = f"it is missing; {full_command('init')} writes it to .env"
    return f"{name}: {message[0].lower()}{message[1:]}."
