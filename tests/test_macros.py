"""Tests the macros of extensions/, without Copier."""

import keyword
import sys
import tomllib
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from processes import ROOT

ENVIRONMENT = Environment(
    loader=FileSystemLoader(ROOT),
    extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
RULES: TemplateModule = ENVIRONMENT.get_template("extensions/rules.jinja").module
MANUAL: TemplateModule = ENVIRONMENT.get_template("extensions/manual.jinja").module
RESERVED: list[str] = ENVIRONMENT.get_template("extensions/reserved.jinja").module.RESERVED  # type: ignore[attr-defined]


def rule(name: str, *values: object) -> str:
    """Returns what a validator answers, as Copier reads it: without the blanks around it."""
    return str(getattr(RULES, name)(*values)).strip()


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("My Bot", "my-bot"),
        ("  Spaces   and -- dashes ", "spaces-and-dashes"),
        ("Café Zürich", "cafe-zurich"),
        ("Straße œuvre", "strasse-oeuvre"),
        ("日本", ""),
        ("🤖", ""),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_slug(text: str, slug: str) -> None:
    assert rule("slug", text) == slug


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My Bot", "my-bot"),
        ("🤖", "my-bot"),
        ("3D Bot", "bot-3d-bot"),
        ("2048", "bot-2048"),
        ("FastAPI", "fastapi-bot"),
    ],
)
def test_slug_from_name(name: str, slug: str) -> None:
    assert rule("slug_from", name) == slug


@pytest.mark.parametrize("name", ["---", "9" * 80, "x" * 80, "Ünï", "import", "a.b_c", "ß", "İ", *"0a-!é本"])
def test_every_slug_from_a_name_is_accepted(name: str) -> None:
    assert rule("slug_error", rule("slug_from", name)) == ""


def test_a_reserved_name_gives_a_slug_that_is_not_reserved() -> None:
    for name in RESERVED:
        assert rule("slug_error", rule("slug_from", name)) == "", name


@pytest.mark.parametrize("slug", ["a", "my-bot", "bot2", "a" * 50])
def test_slugs_that_are_accepted(slug: str) -> None:
    assert rule("slug_error", slug) == ""


@pytest.mark.parametrize("slug", ["", "My-Bot", "my_bot", "-bot", "bot-", "a--b", "2bot", "bot\n", "bot;ls", "é", "$x"])
def test_what_is_not_a_slug(slug: str) -> None:
    assert "is not a slug" in rule("slug_error", slug)
    assert "\n" not in rule("slug_error", slug)


def test_a_slug_that_is_too_long() -> None:
    assert rule("slug_error", "a" * 51) == "The project slug has 51 characters; use at most 50."


@pytest.mark.parametrize("slug", ["fastapi", "pydantic-core", "json", "import", "none", "app", "uv", "py-compile"])
def test_slugs_that_are_reserved(slug: str) -> None:
    assert "choose another slug" in rule("slug_error", slug)


def test_modules_and_keywords_are_reserved() -> None:
    modules = {name.replace("_", "-").lower() for name in sys.stdlib_module_names if not name.startswith("_")}
    keywords = {word.lower() for word in [*keyword.kwlist, *keyword.softkwlist] if word.isalpha()}
    assert (modules | keywords) - set(RESERVED) == set()


def test_what_a_project_depends_on_is_reserved(default_project: Path) -> None:
    project = tomllib.loads((default_project / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {requirement.split(">=")[0].split("[")[0] for requirement in requirements}
    assert names - set(RESERVED) == set()


@pytest.mark.parametrize(
    "text", ["", "Ada", "Conan O'Brien", "日本 🤖", "a: b # c % d & e; [f] (g) | *h* _i_", "x" * 80]
)
def test_text_that_is_accepted(text: str) -> None:
    assert rule("text_error", "It", text, 80) == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (" Ada", "must not begin or end with a space"),
        ("Ada\n", "must not begin or end with a space"),
        ("x" * 81, "has 81 characters; use at most 80"),
        ("a\nb", "line breaks"),
        ("a\x00b", "control characters"),
        ("a\x1bb", "control characters"),
        ("a\u202eb", "invisible characters"),
        ("a\u2028b", "line breaks"),
        ("a\u200bb", "invisible characters"),
        ("a\ud800b", "invisible characters"),
        *[(f"a{character}b", "any of these characters") for character in '"\\`${}<>'],
    ],
)
def test_text_that_is_refused(text: str, error: str) -> None:
    assert error in rule("text_error", "It", text, 80)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_text_that_cannot_be_empty(text: str) -> None:
    assert rule("required_text_error", "The name", text, 80) == "The name must not be empty."
    assert "begin or end" in rule("required_text_error", "The name", " Ada", 80)


@pytest.mark.parametrize("email", ["", "ada@example.com", "a.b+c_d@mail.example-one.co.uk", "a@xn--bcher-kva.example"])
def test_addresses_that_are_accepted(email: str) -> None:
    assert rule("email_error", email) == ""


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "@b.com",
        "a@b",
        "a b@c.com",
        "a@-b.com",
        "a@b..com",
        ".a@b.com",
        "a..b@c.com",
        "a@b.com\n",
        'a"@b.com',
        "ä@b.com",
    ],
)
def test_addresses_that_are_refused(email: str) -> None:
    assert "is not an e-mail address" in rule("email_error", email)


def test_an_address_that_is_too_long() -> None:
    assert "use at most 254" in rule("email_error", "a" * 250 + "@b.com")


@pytest.mark.parametrize(
    ("license", "expression"),
    [("MIT", "MIT"), ("GPL-3.0", "GPL-3.0-or-later"), ("proprietary", "LicenseRef-Proprietary")],
)
def test_spdx(license: str, expression: str) -> None:
    assert rule("spdx", license) == expression


@pytest.mark.parametrize(
    ("providers", "extras"),
    [(["openai", "anthropic"], "[anthropic,openai]"), (["ollama", "openai"], "[openai]"), ([], "")],
)
def test_extras(providers: list[str], extras: str) -> None:
    assert rule("ai_extras", providers) == extras


def manual(source: str) -> str:
    """Returns what a README says of the manual of a template at this address."""
    return str(MANUAL.manual(source))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "page"),
    [
        *[
            (source, "https://github.com/acme/parley.x/tree/HEAD/docs")
            for source in (
                "gh:acme/parley.x",
                "gh:acme/parley.x.git",
                "gh:/acme/parley.x",
                "https://github.com/acme/parley.x",
                "https://github.com/acme/parley.x/",
                "https://github.com/acme/parley.x.git",
                "git+https://github.com/acme/parley.x.git",
                "git@github.com:acme/parley.x.git",
                "git+git@github.com:acme/parley.x.git",
                "ssh://git@github.com/acme/parley.x.git",
                "https://ghp_secret@github.com/acme/parley.x.git",
                "https://ada:se@cret@github.com/acme/parley.x?token=secret",
            )
        ],
        *[
            (source, "https://gitlab.com/acme/team/parley/-/tree/HEAD/docs")
            for source in (
                "gl:acme/team/parley",
                "https://oauth2:secret@gitlab.com/acme/team/parley.git",
                "git@gitlab.com:acme/team/parley.git",
            )
        ],
    ],
)
def test_the_manual_of_a_repository_is_a_link(source: str, page: str) -> None:
    assert manual(source) == f"[the folder `docs/` of the template]({page})"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("/home/ada/parley", "the folder `/home/ada/parley/docs/`"),
        ("/home/ada/a folder/", "the folder `/home/ada/a folder/docs/`"),
        ("~/parley", "the folder `~/parley/docs/`"),
        ("C:\\ada\\parley", "the folder `C:\\ada\\parley/docs/`"),
        (
            "https://git.acme.example/parley.git",
            "the folder `docs/` of the template at `https://git.acme.example/parley.git`",
        ),
        ("https://a:secret@acme.example/p", "the folder `docs/` of the template at `https://acme.example/p`"),
        ("ssh://git:secret@acme.example:22/p", "the folder `docs/` of the template at `ssh://git@acme.example:22/p`"),
        ("git@acme.example:p.git", "the folder `docs/` of the template at `git@acme.example:p.git`"),
        (
            "https://github.com.acme.example/a/b",
            "the folder `docs/` of the template at `https://github.com.acme.example/a/b`",
        ),
        ("https://github.com/acme", "the folder `docs/` of the template at `https://github.com/acme`"),
        ("file:///srv/parley", "the folder `docs/` of the template at `file:///srv/parley`"),
        (".", "the folder `docs/` of the template"),
        ("../parley", "the folder `docs/` of the template"),
    ],
)
def test_the_manual_elsewhere_is_an_address(source: str, said: str) -> None:
    assert manual(source) == said
