import httpx2
from fastapi import FastAPI

from app.api.health import Check


async def test_alive(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


async def test_ready(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.json()["checks"]["database"] == "ok"


async def _broken() -> None:
    raise ConnectionRefusedError("127.0.0.1:6379, password hunter2")


async def test_a_required_part_that_is_down_takes_the_server_out(app: FastAPI, client: httpx2.AsyncClient) -> None:
    app.state.checks["redis"] = Check(_broken)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert answer.json()["checks"].items() >= {"database": "ok", "redis": "down"}.items()
    assert "hunter2" not in answer.text


async def test_another_part_that_is_down_is_only_shown(app: FastAPI, client: httpx2.AsyncClient) -> None:
    app.state.checks["worker"] = Check(_broken, required=False)
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["worker"]) == (200, "down")
