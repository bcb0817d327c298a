"""Tests which origins and hosts settings take, and what they say about others."""

from typing import Any

import pytest
from pydantic import SecretStr

from app.core.config import Settings, read_settings
from app.core.errors import SetupError

ORIGINS = [
    *("https://app.example", "http://localhost:3000", "http://[::1]:3000", "https://xn--bcher-kva.example:8443"),
    *("capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://-", "http://tauri.localhost"),
    *("chrome-extension://abcdefghijklmnop", "moz-extension://0a1b2c3d-0000-4000-8000-000000000000"),
]


def taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> Settings:
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    monkeypatch.setenv(name, value)
    return read_settings(Settings)


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    with pytest.raises(SetupError) as error:
        taken(monkeypatch, name, value)
    return str(error.value).removeprefix(f"{name}: ")


def test_what_browsers_send_is_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(monkeypatch, "ALLOWED_ORIGINS", ", ".join(ORIGINS)).allowed_origins == ORIGINS


@pytest.mark.parametrize(
    ("origin", "right"),
    [
        ("https://App.Example", "https://app.example"),
        ("HTTPS://app.example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("https://app.example/", "https://app.example"),
        ("https://app.example/path?query#part", "https://app.example"),
        ("https://user@app.example", "https://app.example"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("http://127.1:3000", "http://127.0.0.1:3000"),
        ("capacitor://Localhost/", "capacitor://localhost"),
        ("chrome-extension://abc/popup.html", "chrome-extension://abc"),
    ],
)
def test_another_spelling_names_the_right_one(monkeypatch: pytest.MonkeyPatch, origin: str, right: str) -> None:
    sentence = refused(monkeypatch, "ALLOWED_ORIGINS", f"https://other.example,{origin}")
    assert sentence == f"write {right}, as browsers do, and not {origin}."


@pytest.mark.parametrize("origin", ["app.example", "https://", "https://*.example", "app://", "https://a b", "data:x"])
def test_what_is_no_origin(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    sentence = refused(monkeypatch, "ALLOWED_ORIGINS", origin)
    assert sentence == f"{origin} is not an origin such as https://app.example or capacitor://localhost."


@pytest.mark.parametrize("origin", ["null", "file://", "file:///app/index.html"])
def test_pages_without_an_origin(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    assert "which anyone can make" in refused(monkeypatch, "ALLOWED_ORIGINS", origin)


def test_hosts_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["api.example", "*.example.org", "127.0.0.1", "[::1]", "xn--bcher-kva.example", "API.example", "*"]
    assert taken(monkeypatch, "TRUSTED_HOSTS", ",".join(hosts)).trusted_hosts == hosts


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("*.bücher.example", "write *.xn--bcher-kva.example, as browsers do, and not *.bücher.example."),
        ("[0:0::1]", "write [::1], as browsers do, and not [0:0::1]."),
        ("api.example:8000", "api.example:8000 is not a host such as api.example"),
        ("https://api.example", "https://api.example is not a host such as api.example"),
        ("api.example/", "api.example/ is not a host such as api.example"),
        ("::1", "::1 is not a host such as api.example"),
        ("a.*", "a.* is not a host such as api.example"),
    ],
)
def test_hosts_that_no_browser_sends(monkeypatch: pytest.MonkeyPatch, host: str, sentence: str) -> None:
    assert refused(monkeypatch, "TRUSTED_HOSTS", host).startswith(sentence)


@pytest.mark.parametrize("environment", ["local", "staging", "production"])
def test_development_ports_are_allowed_in_a_local_environment(environment: Any) -> None:
    settings = Settings(
        secret_key=SecretStr("x" * 32), environment=environment, allowed_origins=["https://app.example"]
    )
    ports = [f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173, 8080)]
    assert settings.origins == ["https://app.example", *(ports if environment == "local" else [])]
