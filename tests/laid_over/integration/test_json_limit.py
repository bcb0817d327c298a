"""Tests that bodies and frames that cost the server more than their sender are refused in few words."""

import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.api.json_limit import MAX_VALUES, TooManyValues, ValueCounter
from tests.integration.test_errors import assert_problem
from tests.integration.test_sockets import echo_of, with_echo

REGISTER, LOGIN = "/api/v1/auth/register", "/api/v1/auth/login"
JSON = {"Content-Type": "application/json"}
LONG = "x" * 500_000
ANSWER_BYTES = 8_192


async def register(client: httpx2.AsyncClient, body: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.post(REGISTER, content=content, headers=JSON)
    assert len(answer.content) < ANSWER_BYTES
    return answer


@pytest.mark.parametrize(
    "body",
    [
        {f"{number:x}": 0 for number in range(70_000)},
        {"email": [[]] * 100_000},
        {"email": '"\\', "password": "\\\\", "more": [0] * MAX_VALUES},
    ],
    ids=["unknown fields", "lists", "after escapes"],
)
async def test_many_values_are_refused_before_they_are_parsed(client: httpx2.AsyncClient, body: Any) -> None:
    answer = await register(client, body)
    assert_problem(answer, 422, "validation_error")
    assert answer.json()["detail"] == f"The JSON has more than {MAX_VALUES} values."


async def test_few_of_many_errors_are_named(client: httpx2.AsyncClient) -> None:
    answer = await register(client, dict.fromkeys(map(str, range(MAX_VALUES)), 0))
    assert_problem(answer, 422, "validation_error")
    assert len(answer.json()["errors"]) == 20
    assert "The first 20 of 5002 errors" in answer.json()["detail"]


@pytest.mark.parametrize("body", [{LONG: 0}, {"email": LONG}, {"\ud800": 0}, {"full_name": "\ud800" * 9_000}])
async def test_what_is_long_or_no_text_is_not_sent_back(client: httpx2.AsyncClient, body: Any) -> None:
    assert_problem(await register(client, body), 422, "validation_error")


async def test_a_text_may_have_what_separates_values(client: httpx2.AsyncClient) -> None:
    body = {"email": "ada@example.com", "password": "x", "full_name": '[{"a,",{[\\' * 10_000}
    errors = (await register(client, body)).json()["errors"]
    assert {error["field"] for error in errors} == {"body.password", "body.full_name"}


async def test_json_is_utf_8(client: httpx2.AsyncClient) -> None:
    """Refuses UTF-16, in which an escape has other bytes."""
    assert_problem(await register(client, json.dumps({'"': 0}).encode("utf-16")), 400, "bad_request")


async def test_a_form_is_small(client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post(LOGIN, content=b"&" * 100_000, headers=headers)
    assert_problem(answer, 413, "body_too_large")


async def test_frames_are_bound_as_bodies_are(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    async with echo_of(with_echo(app), alice) as socket:
        for body in ({str(number): 0 for number in range(40_000)}, {"type": LONG}, {"type": "ping", LONG: 0}):
            await socket.send(**body)
            error = await socket.frame()
            assert (error["type"], error["code"]) == ("error", "validation_error")
            assert len(json.dumps(error)) < ANSWER_BYTES
        await socket.send(**{"type": "ping", **dict.fromkeys(map(str, range(1_000)), 0)})
        assert len((await socket.frame())["errors"]) == 20


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_values_are_counted_wherever_the_parts_end(size: int) -> None:
    body = json.dumps({'\\"': "\\\\", "[": ['","', "\\", {}, []] * 900}).encode()  # 1 + 1 + 3600 + 900 * 2
    for values, fits in ((body, False), (body.replace(b"[]", b"0"), True)):
        counter = ValueCounter()
        try:
            for start in range(0, len(values), size):
                counter.add(values[start : start + size])
        except TooManyValues:
            assert not fits
        else:
            assert fits
