"""Tests how users configure agents."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from tests.agents import AGENTS, TOOLS, agent, tool_ids
from tests.counting import statements

pytestmark = pytest.mark.anyio


async def test_an_agent_is_what_was_asked_for(alice: httpx2.AsyncClient) -> None:
    [calculate] = await tool_ids(alice, "calculate")
    helper = await agent(alice, name="Researcher")
    made = await agent(
        alice,
        "calculate",
        name="Writer",
        temperature=0,
        instructions="Be brief.",
        tool_policies={calculate: "deny"},
        subagent_ids=[helper["id"]],
    )
    assert made == (await alice.get(f"{AGENTS}/{made['id']}")).json()
    assert (made["name"], made["model_name"], made["temperature"]) == ("Writer", "demo", 0)
    assert made["instructions"] == "Be brief."
    assert [(tool["id"], tool["policy"]) for tool in made["tools"]] == [(calculate, "deny")]
    assert made["tools"][0]["input_schema"]["type"] == "object"
    assert made["subagents"] == [{"id": helper["id"], "name": "Researcher"}]
    assert (helper["temperature"], helper["instructions"], helper["tools"]) == (0.7, "", [])


async def test_agents_are_listed_newest_first_and_by_pages(alice: httpx2.AsyncClient) -> None:
    made = [(await agent(alice, name=name))["id"] for name in ("One", "Two", "Three")]
    page = (await alice.get(AGENTS, params={"limit": 2})).json()
    assert [item["id"] for item in page["items"]] == made[:0:-1]
    rest = (await alice.get(AGENTS, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (made[:1], None)


@pytest.mark.parametrize("path", [AGENTS, AGENTS + "/{id}"])
async def test_reading_costs_the_same_queries_however_much_there_is(
    app: FastAPI, alice: httpx2.AsyncClient, path: str
) -> None:
    few = await agent(alice)
    with statements(app) as counted:
        await alice.get(path.format(id=few["id"]))
    subagents = [(await agent(alice, "calculate"))["id"] for _ in range(5)]
    many = await agent(alice, "calculate", "current_time", "save_note", subagent_ids=subagents)
    with statements(app) as counted_more:
        answer = await alice.get(path.format(id=many["id"]))
    assert answer.status_code == 200
    assert len(counted_more) == len(counted) == 4, counted_more  # authentication, agents, tools, subagents


async def test_only_what_is_sent_changes(alice: httpx2.AsyncClient) -> None:
    [time] = await tool_ids(alice, "current_time")
    helper = await agent(alice, name="Researcher")
    made = await agent(alice, "calculate", instructions="Be brief.", subagent_ids=[helper["id"]])
    path = f"{AGENTS}/{made['id']}"
    changed = (await alice.patch(path, json={"name": "Renamed", "instructions": ""})).json()
    assert changed == {**made, "name": "Renamed", "instructions": "", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > made["updated_at"]
    changed = (await alice.patch(path, json={"tool_ids": [time], "subagent_ids": []})).json()
    assert ([tool["name"] for tool in changed["tools"]], changed["subagents"]) == (["current_time"], [])


async def test_policies_outlive_a_change_of_tools(alice: httpx2.AsyncClient) -> None:
    calculate, time = await tool_ids(alice, "calculate", "current_time")
    made = await agent(alice, "calculate", tool_policies={calculate: "ask"})
    path = f"{AGENTS}/{made['id']}"
    both = (await alice.patch(path, json={"tool_ids": [calculate, time]})).json()
    assert {tool["name"]: tool["policy"] for tool in both["tools"]} == {"calculate": "ask", "current_time": "allow"}
    asked = (await alice.patch(path, json={"tool_policies": {time: "deny"}})).json()
    assert {tool["name"]: tool["policy"] for tool in asked["tools"]} == {"calculate": "ask", "current_time": "deny"}


async def test_a_deleted_agent_is_gone_and_nobody_delegates_to_it(alice: httpx2.AsyncClient) -> None:
    helper = await agent(alice)
    made = await agent(alice, subagent_ids=[helper["id"]])
    assert (await alice.delete(f"{AGENTS}/{helper['id']}")).status_code == 204
    assert (await alice.get(f"{AGENTS}/{helper['id']}")).status_code == 404
    assert (await alice.get(f"{AGENTS}/{made['id']}")).json()["subagents"] == []
    assert [item["id"] for item in (await alice.get(AGENTS)).json()["items"]] == [made["id"]]


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("no name", {"name": ""}),
    ("a long name", {"name": "x" * 101}),
    ("a blank at the end", {"name": "Helper "}),
    ("an unknown model", {"model_name": "gpt-0"}),
    ("too cold", {"temperature": -0.1}),
    ("too hot", {"temperature": 2.1}),
    ("too many instructions", {"instructions": "x" * 32_001}),
    ("a policy without its tool", {"tool_policies": {str(uuid4()): "allow"}}),
    ("an unknown policy", {"tool_policies": {str(uuid4()): "perhaps"}}),
    ("an unknown field", {"color": "blue"}),
    ("a name that is null", {"name": None}),
]


@pytest.mark.parametrize("body", [body for _, body in REFUSED], ids=[name for name, _ in REFUSED])
async def test_what_is_refused_leaves_nothing_behind(alice: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    made = await agent(alice)
    refused = await alice.post(AGENTS, json={"name": "Helper", "model_name": "demo", **body})
    assert (refused.status_code, bool(refused.json()["detail"])) == (422, True)
    assert (await alice.patch(f"{AGENTS}/{made['id']}", json=body)).status_code == 422
    assert (await alice.get(AGENTS)).json()["items"] == [made]


async def test_tools_and_subagents_must_exist_and_be_ones_own(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    theirs = await agent(bob)
    for field, id in (("tool_ids", str(uuid4())), ("subagent_ids", str(uuid4())), ("subagent_ids", theirs["id"])):
        refused = await alice.post(AGENTS, json={"name": "Helper", "model_name": "demo", field: [id]})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert (await alice.get(AGENTS)).json()["items"] == []


async def test_agents_do_not_delegate_in_circles(alice: httpx2.AsyncClient) -> None:
    first = await agent(alice)
    second = await agent(alice, subagent_ids=[first["id"]])
    third = await agent(alice, subagent_ids=[second["id"]])
    for id in (first["id"], second["id"], third["id"]):
        refused = await alice.patch(f"{AGENTS}/{first['id']}", json={"subagent_ids": [id]})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert (await alice.get(f"{AGENTS}/{first['id']}")).json()["subagents"] == []


async def test_tools_have_the_same_ids_after_a_restart(alice: httpx2.AsyncClient, app: FastAPI) -> None:
    before = (await alice.get(TOOLS)).json()["items"]
    assert {"calculate", "current_time"} <= {tool["name"] for tool in before}
    async with app.router.lifespan_context(app):
        assert (await alice.get(TOOLS)).json()["items"] == before
