from html import escape

import pytest

from app.services.email.messages import PREVIEWS
from app.services.email.templates import FOLDER, render_email
from tests.conftest import MakeSettings

APP_NAME, LINK = "Salt & <Pepper>", "https://app.example/page#token=abc&x=<y>"


def test_every_email_has_a_preview() -> None:
    assert {path.name.split(".")[0] for path in FOLDER.glob("*.subject.txt")} == PREVIEWS.keys()


@pytest.mark.parametrize("name", PREVIEWS)
def test_every_email_renders(make_settings: MakeSettings, name: str) -> None:
    content = PREVIEWS[name](make_settings(app_name=APP_NAME))
    assert content.subject
    assert content.text.strip()
    assert "</html>" in content.html
    assert APP_NAME not in content.html


@pytest.mark.parametrize("name", ["verify", "reset", "change"])
def test_a_link_is_in_the_text_as_it_is_and_escaped_in_the_page(name: str) -> None:
    content = render_email(name, app_name=APP_NAME, link=LINK, token="abc", minutes=60)
    assert f"\n{LINK}\n" in content.text
    assert f'href="{escape(LINK)}"' in content.html
