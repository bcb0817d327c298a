from pathlib import Path

import pytest

from app.core import config
from app.core.commands import full_command
from app.core.config import ROOT, Settings, load_environment, read_settings
from app.core.errors import SetupError

SECRET = "x" * 32


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECRET_KEY", "", f"SECRET_KEY: it is missing; {full_command('init')} writes it to .env."),
        ("SECRET_KEY", "short", "SECRET_KEY: at least 32 bytes are needed"),
        ("SECRET_KEY", " " * 40, "SECRET_KEY: it is missing"),
        ("ENVIRONMENT", "prod", "ENVIRONMENT: input should be 'local', 'staging' or 'production'."),
        ("DATABASE_URL", "mysql://host/name", "DATABASE_URL: use postgresql://… or sqlite:///…."),
        ("DATABASE_URL", "nonsense", "DATABASE_URL: this is not a database URL"),
        ("DATABASE_URL", "sqlite:///:memory:", "DATABASE_URL: name a file and nothing else, such as sqlite:///app.db."),
        ("DATABASE_URL", "sqlite:///app.db?mode=ro", "DATABASE_URL: name a file and nothing else"),
        ("DATABASE_URL", "postgresql://h:abc/n", "DATABASE_URL: this is not a database URL"),
        ("DATABASE_URL", "postgresql://h:99999/n", "DATABASE_URL: host and port are not valid"),
        ("DATABASE_URL", "postgresql://u:hunter2@x@h/n", "DATABASE_URL: host and port are not valid; in a password"),
        ("DATABASE_URL", "postgresql://h/n?channel_binding=yes", "DATABASE_URL: of channel_binding, the driver knows"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "9999999999", "ACCESS_TOKEN_EXPIRE_MINUTES: input should be less than"),
        ("SHUTDOWN_GRACE_SECONDS", "inf", "SHUTDOWN_GRACE_SECONDS: input should be less than"),
        ("API_V1_PREFIX", "/health", "API_V1_PREFIX: the application uses this path itself"),
        ("ALLOWED_ORIGINS", "https://a.example,*", "ALLOWED_ORIGINS: name each origin;"),
        ("SMTP_URL", "http://u:hunter2@host", "SMTP_URL: use smtps://"),
        ("SMTP_URL", "smtps://", "SMTP_URL: use smtps://"),
        ("SMTP_URL", "smtps://host:99999", "SMTP_URL: use smtps://"),
        ("SMTP_URL", "smtp://u:hunter2@host", "SMTP_URL: smtp:// would send the password unencrypted;"),
        ("ALLOWED_ORIGINS", "https://a.example/", "ALLOWED_ORIGINS: write https://a.example, as browsers do"),
        ("ALLOWED_ORIGINS", "https://*.example", "ALLOWED_ORIGINS: https://*.example is not an origin"),
        ("ALLOWED_ORIGINS", "null", "ALLOWED_ORIGINS: null is what pages without"),
        ("TRUSTED_HOSTS", "https://a.example", "TRUSTED_HOSTS: https://a.example is not a host"),
        ("REDIS_URL", "http://:hunter2@host", "REDIS_URL: use redis://host:6379/0"),
        ("REDIS_URL", "redis://:hunter2@host/name", "REDIS_URL: use redis://host:6379/0"),
        ("TRUSTED_PROXIES", "10.0.0.1, proxy", "TRUSTED_PROXIES: name addresses or networks"),
        ("LOGIN_ATTEMPTS_PER_MINUTE", "-1", "LOGIN_ATTEMPTS_PER_MINUTE: input should be greater than or equal to 0."),
        ("MAIL_FROM", "nobody", "MAIL_FROM: this is not an e-mail address."),
        ("MAIL_FROM", "a@example.com,b@example.com", "MAIL_FROM: this is not an e-mail address."),
        ("MAIL_FROM", "=?x?q?x=40evil.test=2c?=a@example.com", "MAIL_FROM: this is not an e-mail address."),
        ("MAIL_FROM", "a..b@example.com", "MAIL_FROM: this is not an e-mail address."),
        ("APP_NAME", "Bot\r\nBcc: x@evil.test", "APP_NAME: it must be one line without control characters."),
        ("PORT", "http", "PORT: input should be a valid integer"),
        ("PORT", "70000", "PORT: input should be less than or equal to 65535."),
        ("ROOT_PATH", "https://a.example/bot", "ROOT_PATH: write the prefix alone, as in /bot."),
        ("ROOT_PATH", "/../bot", "ROOT_PATH: write the prefix alone, as in /bot."),
        (
            "DATABASE_URL",
            "postgresql+psycopg2://h/n",
            "DATABASE_URL: write postgresql:// and not postgresql+psycopg2://",
        ),
        ("APP_URL", "app.example", "APP_URL: it must begin with https:// or http://"),
        ("DATABASE_POOL_SIZE", "0", "DATABASE_POOL_SIZE: input should be greater than or equal to 1."),
        (
            "TOKENS_PER_DAY",
            "8191",
            "TOKENS_PER_DAY: use 0 for no limit, or at least AI_MAX_OUTPUT_TOKENS, which one answer may need.",
        ),
        ("TOKENS_PER_MONTH", "-1", "TOKENS_PER_MONTH: input should be greater than or equal to 0."),
        ("DOLLARS_PER_DAY", "nan", "DOLLARS_PER_DAY: "),
        (
            "DOLLARS_PER_MONTH",
            "0.0000001",
            "DOLLARS_PER_MONTH: decimal input should have no more than 6 decimal places.",
        ),
        ("API_V1_PREFIX", "api/", "API_V1_PREFIX: string should match pattern"),
    ],
)
def test_a_wrong_setting_is_named_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as error:
        read_settings(Settings)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_the_value_of_a_wrong_setting_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    with pytest.raises(SetupError) as error:
        read_settings(Settings)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("url", ["postgres://u:p@h/n", "postgresql://u:p@h/n", "postgresql+asyncpg://u:p@h/n"])
def test_the_async_driver_is_chosen(url: str) -> None:
    settings = Settings.model_validate({"database_url": url})
    assert settings.database_url.drivername == "postgresql+asyncpg"
    assert "p@" not in repr(settings)


def test_the_level_of_the_log_may_be_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "warning")
    assert read_settings(Settings).log_level == "WARNING"


def test_a_file_that_is_not_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("APP_NAME=Zoë".encode("latin-1"))
    monkeypatch.setattr(config, "ENV_FILE", tmp_path / ".env")
    with pytest.raises(SetupError, match=r"\.env cannot be read: it must be a text file in UTF-8"):
        load_environment()


def test_a_relative_sqlite_path_starts_at_the_project() -> None:
    settings = Settings.model_validate({"database_url": "sqlite:///data/app.db"})
    assert settings.database_url.database == str(ROOT / "data" / "app.db")


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://a.example, https://b.example")
    assert read_settings(Settings).allowed_origins == ["https://a.example", "https://b.example"]


def test_the_environment_wins_over_env_and_env_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("APP_NAME=second\nAI_MODEL='${NOT} expanded'\nLOG_LEVEL=ERROR\n")
    (tmp_path / "defaults.env").write_text("APP_NAME=third\nAI_MODEL=third\nAPP_DESCRIPTION=third\n")
    monkeypatch.setattr(config, "ENV_FILE", tmp_path / ".env")
    monkeypatch.setattr(config, "DEFAULTS_FILE", tmp_path / "defaults.env")
    monkeypatch.setattr("os.environ", {"SECRET_KEY": SECRET, "LOG_LEVEL": "DEBUG"})
    load_environment()
    settings = read_settings(Settings)
    assert (settings.log_level, settings.app_name) == ("DEBUG", "second")
    assert (settings.ai_model, settings.app_description) == ("${NOT} expanded", "third")
