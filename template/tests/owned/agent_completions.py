import httpx2

from tests.agents import agent
from tests.owned.case import Case


async def model(client: httpx2.AsyncClient) -> str:
    return f"/v1/models/agent:{(await agent(client))['id']}"


CASES = {"/v1/models/{model_id}": Case(model)}
