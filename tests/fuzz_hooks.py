"""For schemathesis, in `nox -s fuzz`: who asks. It logs in again and again, since what is tried ends sessions."""

import json
import os
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import schemathesis  # pyright: ignore[reportMissingImports]: only that session installs it

LOGIN = f"{os.environ['FUZZED']}/api/v1/auth/login"
FORM = urlencode({"username": os.environ["FUZZER"], "password": os.environ["FUZZER_PASSWORD"]}).encode()


@schemathesis.auth(refresh_interval=1)
class Bearer:
    def get(self, case: Any, context: Any) -> str:
        with urlopen(LOGIN, FORM, timeout=10) as answer:
            return json.load(answer)["access_token"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
