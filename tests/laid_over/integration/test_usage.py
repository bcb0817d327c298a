"""Tests what users used and may use: counted exactly, whoever else counts at the same moment."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from app.api.deps import CurrentUser
from app.core.database import Database, open_database
from app.core.errors import AccountGone, BudgetExhausted
from app.models.base import now
from app.models.usage import Reservation, Usage
from app.repositories.usage import STALE_AFTER, Amount, Balance, ReservationRepository, UsageRecord, UsageRepository
from app.repositories.user import UserRepository
from app.services.processes.cleanup import delete_expired
from app.services.usage.budgets import Budgets
from tests.conftest import MakeSettings, bearer, client_for, running, sign_in
from tests.integration.test_errors import assert_problem

USAGE, FEATURE = "/api/v1/usage", "probe"
AMOUNT = Amount(100, Decimal("0.0000002"))
NOTHING = Amount(0, Decimal(0))


@pytest.fixture
async def user_id(database: Database) -> UUID:
    return await add_user(database, "a@example.com")


@pytest.fixture
async def other_database(make_settings: MakeSettings) -> AsyncGenerator[Database]:
    """Opens the database a second time, as another process does."""
    async with open_database(make_settings()) as database:
        yield database


async def add_user(database: Database, email: str) -> UUID:
    async with database.write() as session:
        return (await UserRepository(session).create(email=email, hashed_password="x")).id


async def reserve(
    database: Database, user_id: UUID, *, feature: str = FEATURE, budgets: Budgets | None = None
) -> tuple[UUID, Balance]:
    """Returns the id of the reservation, and the balance that includes it."""
    subject_id = uuid4()
    async with database.write() as session:
        balance = await UsageRepository(session, user_id).reserve(subject_id, feature, AMOUNT)
        if budgets:
            budgets.check(balance, AMOUNT)
    return subject_id, balance


async def settle(
    database: Database, user_id: UUID, subject_id: UUID, *tokens: int, cost: str | None = "0.01", model: str = "demo"
) -> None:
    read, written = tokens or (30, 12)
    truth = UsageRecord(model, read, written, None if cost is None else Decimal(cost))
    async with database.write() as session:
        await UsageRepository(session, user_id).record(subject_id, FEATURE, truth)


async def balance(database: Database, user_id: UUID, at: datetime | None = None) -> Balance:
    async with database.read() as session:
        return await UsageRepository(session, user_id).balance(at or now(), FEATURE)


async def used(database: Database, user_id: UUID) -> list[tuple[Any, ...]]:
    async with database.read() as session:
        rows = await UsageRepository(session, user_id).since(date.min)
    return [(row.day, row.model, row.requests, row.input_tokens, row.output_tokens, row.cost) for row in rows]


async def test_what_is_reserved_is_settled_to_the_truth(database: Database, user_id: UUID) -> None:
    subject_id, reserved = await reserve(database, user_id)
    assert reserved == await balance(database, user_id) == Balance(AMOUNT, AMOUNT, 1)
    await settle(database, user_id, subject_id, 30, 12)
    true = Amount(42, Decimal("0.01"))
    assert await balance(database, user_id) == Balance(true, true, 0)


async def test_a_day_has_one_row_for_each_model(database: Database, user_id: UUID) -> None:
    for model, cost in (("a", "0.000000001"), ("a", None), ("a", "0.5"), ("b", None), ("b", None)):
        await settle(database, user_id, uuid4(), 30, 12, cost=cost, model=model)
    today = now().date()
    assert await used(database, user_id) == [
        (today, "a", 3, 90, 36, Decimal("0.500000001")),
        (today, "b", 2, 60, 24, None),
    ]


async def test_what_ends_after_midnight_counts_on_the_day_it_was_reserved(database: Database, user_id: UUID) -> None:
    subject_id, _ = await reserve(database, user_id)
    yesterday = now().date() - timedelta(days=1)
    async with database.write() as session:
        await session.execute(update(Reservation).values(day=yesterday))
    assert (await balance(database, user_id)).day == NOTHING
    await settle(database, user_id, subject_id)
    [[day, *_]] = await used(database, user_id)
    assert day == yesterday


async def test_a_day_and_a_month_begin_anew(database: Database, user_id: UUID) -> None:
    for day, tokens in ((date(2026, 10, 31), 1), (date(2026, 11, 1), 10), (date(2026, 11, 30), 100)):
        await settle(database, user_id, uuid4(), tokens, 0, cost="0", model=str(day))
        async with database.write() as session:
            await session.execute(update(Usage).where(Usage.model == str(day)).values(day=day))
    for at, day_tokens, month_tokens in (
        (datetime(2026, 11, 30, 23, 59, tzinfo=UTC), 100, 110),
        (datetime(2026, 12, 1, tzinfo=UTC), 0, 0),
    ):
        found = await balance(database, user_id, at)
        assert (found.day.tokens, found.month.tokens) == (day_tokens, month_tokens)


async def test_another_persons_usage_is_not_ones_own(database: Database, user_id: UUID) -> None:
    other = await add_user(database, "b@example.com")
    subject_id, _ = await reserve(database, other)
    await settle(database, user_id, subject_id, 0, 0, cost="0")
    assert await balance(database, user_id) == Balance(NOTHING, NOTHING, 0)
    assert await balance(database, other) == Balance(AMOUNT, AMOUNT, 1)


async def test_reservations_are_counted_by_feature(database: Database, user_id: UUID) -> None:
    await reserve(database, user_id, feature="another")
    _, found = await reserve(database, user_id)
    assert (found.day.tokens, found.reservations) == (200, 1)


async def test_what_asked_no_model_used_nothing(database: Database, user_id: UUID) -> None:
    subject_id, _ = await reserve(database, user_id)
    async with database.write() as session:
        await UsageRepository(session, user_id).record(subject_id, FEATURE, None)
    assert await balance(database, user_id) == Balance(NOTHING, NOTHING, 0)
    assert await used(database, user_id) == []


async def test_of_somebody_who_is_gone_nothing_is_counted(database: Database) -> None:
    await settle(database, uuid4(), uuid4())
    with pytest.raises(AccountGone):
        await reserve(database, uuid4())


async def test_what_is_released_was_never_used(database: Database, user_id: UUID) -> None:
    subject_id, _ = await reserve(database, user_id)
    kept, _ = await reserve(database, user_id)
    async with database.write() as session:
        await ReservationRepository(session).release([subject_id])
    async with database.read() as session:
        assert await session.scalar(select(Reservation.id)) == kept
    assert await used(database, user_id) == []


async def test_a_reservation_that_nobody_settles_expires(database: Database, user_id: UUID) -> None:
    stale, _ = await reserve(database, user_id)
    async with database.write() as session:
        await session.execute(update(Reservation).values(created_at=now() - STALE_AFTER))
    fresh, found = await reserve(database, user_id)
    assert found == Balance(AMOUNT, AMOUNT, 1)
    await delete_expired(database)
    async with database.read() as session:
        assert await session.scalar(select(Reservation.id)) == fresh != stale


async def test_what_is_refused_leaves_nothing_reserved(
    make_settings: MakeSettings, database: Database, user_id: UUID
) -> None:
    budgets = Budgets(make_settings(tokens_per_day=99, ai_max_output_tokens=1))
    with pytest.raises(BudgetExhausted):
        await reserve(database, user_id, budgets=budgets)
    assert await balance(database, user_id) == Balance(NOTHING, NOTHING, 0)


@pytest.mark.parametrize("limit", [{"tokens_per_day": 500}, {"dollars_per_month": "0.000001"}])
async def test_many_at_once_cannot_overspend(
    make_settings: MakeSettings, database: Database, other_database: Database, user_id: UUID, limit: dict[str, Any]
) -> None:
    budgets = Budgets(make_settings(**limit, ai_max_output_tokens=1))
    tries = [reserve(each, user_id, budgets=budgets) for each in (database, other_database) * 10]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(end) for end in ends if isinstance(end, BaseException)] == [BudgetExhausted] * 15
    assert (await balance(database, user_id)).reservations == 5


async def test_many_at_once_are_counted_exactly(database: Database, other_database: Database, user_id: UUID) -> None:
    made = await asyncio.gather(*(reserve(each, user_id) for each in (database, other_database) * 10))
    assert sorted(found.reservations for _, found in made) == list(range(1, 21))
    settling = zip((database, other_database) * 10, made, strict=True)
    await asyncio.gather(*(settle(each, user_id, subject_id, 1, 2, cost="0.1") for each, (subject_id, _) in settling))
    assert await used(database, user_id) == [(now().date(), "demo", 20, 20, 40, Decimal(2))]


@pytest.fixture
def database_of_app(app: FastAPI) -> Database:
    return app.state.database


async def own_id(client: httpx2.AsyncClient) -> UUID:
    return UUID((await client.get("/api/v1/users/me")).json()["id"])


async def test_usage_is_told_by_day_and_model(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database_of_app: Database
) -> None:
    alice_id = await own_id(alice)
    for model, cost in (("a", "0.000000012"), ("b", None)):
        await settle(database_of_app, alice_id, uuid4(), 30, 12, cost=cost, model=model)
    answer = (await alice.get(USAGE)).json()
    tokens = {"input_tokens": 30, "output_tokens": 12, "characters": 0, "seconds": 0}
    same = {"day": str(now().date()), "feature": FEATURE, "requests": 1, **tokens}
    assert answer == {
        "days": [{**same, "model": "a", "cost": "0.000000012"}, {**same, "model": "b", "cost": None}],
        "budgets": [],
    }
    assert (await bob.get(USAGE)).json() == {"days": [], "budgets": []}


async def test_usage_goes_back_as_far_as_one_asks(alice: httpx2.AsyncClient, database_of_app: Database) -> None:
    await settle(database_of_app, await own_id(alice), uuid4())
    async with database_of_app.write() as session:
        await session.execute(update(Usage).values(day=now().date() - timedelta(days=6)))
    for days, found in ((6, 0), (7, 1), (366, 1)):
        assert len((await alice.get(USAGE, params={"days": days})).json()["days"]) == found
    for wrong in (0, 367, "x"):
        assert_problem(await alice.get(USAGE, params={"days": wrong}), 422, "validation_error")


async def test_an_api_key_may_read_usage_by_its_scope(alice: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    made = await alice.post("/api/v1/auth/api-keys", json={"name": "A script", "scopes": ["usage"]})
    assert (await client.get(USAGE, headers=bearer(made.json()["key"]))).status_code == 200


async def test_what_is_left_of_each_budget(make_settings: MakeSettings) -> None:
    settings = make_settings(tokens_per_day=9_000, dollars_per_month="0.5")
    async with running(settings) as app, client_for(app) as client:
        client.headers.update(await sign_in(client, "alice@example.com"))
        user_id = await own_id(client)
        await settle(app.state.database, user_id, uuid4(), 9_000, 1, cost="0.1")
        await reserve(app.state.database, user_id)
        dollars, tokens = (await client.get(USAGE)).json()["budgets"]
    assert (dollars["unit"], dollars["period"], dollars["limit"]) == ("dollars", "month", "0.5")
    assert (dollars["used"], dollars["left"]) == ("0.1000002", "0.3999998")
    assert (tokens["unit"], tokens["period"], tokens["limit"]) == ("tokens", "day", "9000")
    assert (tokens["used"], tokens["left"]) == ("9101", "0")
    assert now() < datetime.fromisoformat(tokens["renews_at"]) <= now() + timedelta(days=1)


async def test_a_spent_budget_is_a_problem_that_says_when_to_come_back(app: FastAPI, alice: httpx2.AsyncClient) -> None:
    budgets = Budgets(app.state.settings.model_copy(update={"tokens_per_day": 99}))

    async def spend(user: CurrentUser) -> None:
        await reserve(app.state.database, user.id, budgets=budgets)

    app.add_api_route("/spend", spend, methods=["POST"])
    answer = await alice.post("/spend")
    assert_problem(answer, 402, "budget_exhausted")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
