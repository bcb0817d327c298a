from html import escape

import pytest

from app.services.email.templates import list_templates, preview_email, render_email

APP_NAME = "Salt & <Pepper>"
VALUES = {
    "app_name": APP_NAME,
    "app_url": "https://app.example",
    "link": "https://app.example/page#token=abc&x=<y>",
    "token": "abc",
    "minutes": 60,
    "notice": "The password of your account was changed.",
}


@pytest.mark.parametrize("name", list_templates())
def test_every_email_renders(name: str) -> None:
    content = preview_email(name, **VALUES)
    assert content.subject.startswith(APP_NAME)
    assert "\n" not in content.subject
    assert "{{" not in content.subject + content.text + content.html
    assert "</html>" in content.html
    assert APP_NAME not in content.html
    assert escape(APP_NAME) in content.html


@pytest.mark.parametrize("name", ["verify", "reset", "change"])
def test_a_link_is_in_the_text_as_it_is_and_escaped_in_the_page(name: str) -> None:
    content = render_email(name, **VALUES)
    assert f"\n{VALUES['link']}\n" in content.text
    assert f'href="{escape(str(VALUES["link"]))}"' in content.html


def test_a_preview_names_the_values_that_it_lacks() -> None:
    assert "minutes }} minutes" in preview_email("verify", app_name=APP_NAME).text
