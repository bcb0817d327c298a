"""Signs in for schemathesis in `nox -s fuzz`, again and again, since the requests that it tries end sessions."""

import json
import os
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from uuid import uuid4

import schemathesis  # pyright: ignore[reportMissingImports]: only that session installs it

AUTH = f"{os.environ['FUZZED']}/api/v1/auth"
PASSWORD = os.environ["FUZZER_PASSWORD"]


@schemathesis.auth(refresh_interval=1)
class Bearer:
    """Signs in as a superuser; once a request has made another superuser and removed this one, as a new user."""

    def __init__(self) -> None:
        self._email = os.environ["FUZZER"]

    def get(self, case: Any, context: Any) -> str:
        try:
            return self._log_in()
        except HTTPError:
            self._email = f"{uuid4().hex}@example.com"
            body = json.dumps({"email": self._email, "password": PASSWORD}).encode()
            urlopen(Request(f"{AUTH}/register", body, {"Content-Type": "application/json"}), timeout=10).close()
            return self._log_in()

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}

    def _log_in(self) -> str:
        form = urlencode({"username": self._email, "password": PASSWORD}).encode()
        with urlopen(f"{AUTH}/login", form, timeout=10) as answer:
            return json.load(answer)["access_token"]
