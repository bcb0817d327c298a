"""Tests which database URLs settings take, and what they say about others."""

from pathlib import Path

import pytest

from app.core.config import Settings, read_settings
from app.core.errors import SetupError
from app.core.postgresql_url import for_driver, public, read_postgresql_url


def taken(monkeypatch: pytest.MonkeyPatch, value: str) -> Settings:
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    monkeypatch.setenv("DATABASE_URL", value)
    return read_settings(Settings)


def refused(monkeypatch: pytest.MonkeyPatch, value: str) -> str:
    with pytest.raises(SetupError) as error:
        taken(monkeypatch, value)
    assert "hunter2" not in str(error.value)
    return str(error.value).removeprefix("DATABASE_URL: ")


PROVEN = {"sslmode": "verify-full", "sslrootcert": "system"}
LIST = {"host": "a.example,::1", "port": "5433,5432"}


@pytest.mark.parametrize(
    ("url", "address", "query"),
    [
        ("postgres://u:p%40@h:1/n", "u:***@h:1/n", {}),
        ("postgresql://h/n?ssl=true", "h/n", {"sslmode": "require"}),
        ("postgresql://h/n?ssl=verify-ca&sslrootcert={ca}", "h/n", {"sslmode": "verify-ca", "sslrootcert": "{ca}"}),
        ("postgresql://h/n?sslrootcert=system", "h/n", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgresql://h/n?channel_binding=prefer&gssencmode=disable&client_encoding=utf8", "h/n", {}),
        ("postgresql://h/n?sslmode=require&channel_binding=require", "h/n", PROVEN),
        ("postgresql://h/n?channel_binding=require&sslrootcert={ca}", "h/n", PROVEN | {"sslrootcert": "{ca}"}),
        ("postgresql://u@%2Fvar%2Frun/n", "u@/n?host=/var/run", {"host": "/var/run"}),
        ("postgresql:///n?user=u&password=hunter2&host=h&port=6", "u:***@h:6/n", {}),
        ("postgresql://other:1/n?host=h&port=6&dbname=m", "h:6/m", {}),
        ("postgresql://u@/n?host=/cloudsql/a:b:c", "u@/n?host=/cloudsql/a:b:c", {"host": "/cloudsql/a:b:c"}),
        ("postgresql://u@a.example:5433,[::1]/n", "u@/n?host=a.example,::1&port=5433,5432", LIST),
        ("postgresql://h/n?host=a,b&port=6", "/n?host=a,b&port=6,6", {"host": "a,b", "port": "6,6"}),
        ("postgresql://[::1]:6/n", "[::1]:6/n", {}),
        ("postgresql://h/n?fallback_application_name=bot", "h/n", {"application_name": "bot"}),
    ],
)
def test_a_url_means_what_it_means_to_libpq(url: str, address: str, query: dict[str, str]) -> None:
    read = read_postgresql_url(url.format(ca=__file__), Path("/"))
    assert public(read) == f"postgresql+asyncpg://{address}"
    assert read.query == {name: value.format(ca=__file__) for name, value in query.items()}


def test_the_driver_is_told_the_rest() -> None:
    url = (
        "postgresql://h/n?sslmode=require&connect_timeout=3&keepalives_idle=9&options=-c%20search_path%3Da%20-c%20b%3D1"
    )
    address, arguments = for_driver(read_postgresql_url(url, Path("/")))
    assert address.query == {}
    assert arguments["timeout"] == 3
    assert arguments["dsn"] == "postgresql://?sslmode=require&options=-c%20search_path%3Da%20-c%20b%3D1"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("channel_binding=yes", "of channel_binding, the driver knows disable, prefer, require."),
        ("sslmode=strict", "of sslmode, the driver knows disable, allow, prefer, require, verify-ca, verify-full."),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system needs sslmode=verify-full."),
        ("sslrootcert=system&sslcrl=/dev/null", "sslrootcert=system does not go with sslcrl."),
        ("sslrootcert=/no/ca.pem", "sslrootcert: the file /no/ca.pem cannot be read."),
        ("target_session_attrs=best", "of target_session_attrs, the driver knows any, primary"),
        ("connect_timeout=soon", "connect_timeout must be a whole number."),
        ("requirepeer=postgres&password=hunter2", "the driver does not know requirepeer: leave it out."),
        ("pgbouncer=true&connection_limit=1", "leave out pgbouncer, and set DATABASE_POOLER=true."),
        ("schema=a&connection_limit=1", "the driver does not know connection_limit, schema: leave it out."),
        ("statement_timeout=5", "the driver does not know statement_timeout: leave it out."),
        ("host=a,b&port=1,2,3", "write one port for all hosts, or as many ports as hosts."),
        ("host=a&port=x", "host and port are not valid"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(monkeypatch: pytest.MonkeyPatch, query: str, sentence: str) -> None:
    assert refused(monkeypatch, f"postgresql://u:hunter2@h/n?{query}").startswith(sentence)


def test_a_certificate_needs_an_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url = "postgresql://h/n?sslmode=verify-full"
    assert "needs sslrootcert" in refused(monkeypatch, url)
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    taken(monkeypatch, url)


def test_paths_begin_at_the_project(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    read = read_postgresql_url("postgresql://h/n?sslrootcert=ca.pem", tmp_path)
    assert read.query["sslrootcert"] == str(tmp_path / "ca.pem")
