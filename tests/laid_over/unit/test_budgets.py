"""Tests when budgets renew, which requests they allow, and what a refusal says."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest

from app.core.config import Settings
from app.core.errors import BudgetExhausted
from app.core.logging import configure_logging
from app.repositories.usage import Amount, Balance
from app.services.ai import AssistantMessage, Prompt, UserMessage
from app.services.usage import budgets as budgets_module
from app.services.usage.budgets import Budget, Budgets, open_budgets
from app.services.usage.prices import price

NOON = datetime(2026, 12, 31, 12, tzinfo=UTC)
PRICED, DEARER, UNPRICED = "anthropic:claude-sonnet-4-5", "anthropic:claude-opus-4-1", "ollama:llama-test"


def settings(**values: Any) -> Settings:
    return Settings(**{"secret_key": "x" * 32, "ai_max_output_tokens": 100, **values})


def amount(tokens: int, cost: str = "0") -> Amount:
    return Amount(tokens, Decimal(cost))


def refusal(budgets: Budgets, balance: Balance, reserved: Amount) -> BudgetExhausted:
    with pytest.raises(BudgetExhausted) as caught:
        budgets.check(balance, reserved)
    return caught.value


@pytest.fixture
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets_module, "now", lambda: NOON)


@pytest.mark.parametrize(
    ("period", "at", "renews_at"),
    [
        ("day", NOON, datetime(2027, 1, 1, tzinfo=UTC)),
        ("day", datetime(2028, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)),
        ("month", NOON, datetime(2027, 1, 1, tzinfo=UTC)),
        ("month", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("month", datetime.fromisoformat("2026-11-30T23:30:00-05:00"), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_budget_renews_at_midnight_utc(period: Literal["day", "month"], at: datetime, renews_at: datetime) -> None:
    assert Budget("tokens", period, Decimal(1)).renews_at(at) == renews_at


@pytest.mark.usefixtures("_at_noon")
def test_what_does_not_fit_is_refused_with_what_is_left_and_when_it_renews() -> None:
    budgets = Budgets(settings(tokens_per_day=10_000))
    budgets.check(Balance(amount(10_000), amount(10_000), 0), amount(500))
    error = refusal(budgets, Balance(amount(10_001), amount(10_001), 0), amount(500))
    assert str(error) == (
        "This request may use up to 500 tokens; 499 tokens of your budget of 10,000 tokens a day remain. "
        "The budget renews at 2027-01-01 00:00 UTC."
    )
    assert (error.status, error.headers) == (402, {"Retry-After": "43200"})


@pytest.mark.usefixtures("_at_noon")
def test_a_budget_in_dollars() -> None:
    budgets = Budgets(settings(dollars_per_month="0.5"))
    budgets.check(Balance(amount(1, "0.5"), amount(1, "0.5"), 0), amount(1, "0.1"))
    error = refusal(budgets, Balance(amount(1, "0.1"), amount(1, "0.75"), 0), amount(1, "0.1"))
    assert "; 0.000000 US dollars of your budget of 0.500000 US dollars a month remain." in str(error)


def test_of_two_that_are_spent_the_one_that_renews_last_is_named() -> None:
    budgets = Budgets(settings(tokens_per_day=100, tokens_per_month=100))
    assert " a month " in str(refusal(budgets, Balance(amount(101), amount(101), 0), amount(1)))


def test_what_costs_nothing_needs_no_dollars() -> None:
    Budgets(settings(dollars_per_day="0.5")).check(Balance(amount(9, "0.6"), amount(9, "0.6"), 0), amount(9))


def test_nothing_is_refused_without_budgets() -> None:
    Budgets(settings()).check(Balance(amount(10**12, "1e6"), amount(10**12, "1e6"), 0), amount(10**12, "1e6"))


def test_the_longest_answer_is_reserved() -> None:
    budgets = Budgets(settings(dollars_per_day="0.5", ai_model=PRICED))
    messages = [UserMessage("x" * 80), AssistantMessage("\N{CJK UNIFIED IDEOGRAPH-8A9E}" * 40)]
    prompts = {model: Prompt(messages, "x" * 40, model) for model in ("demo", UNPRICED, PRICED, None)}
    assert budgets.at_most(prompts["demo"]) == amount(160)
    assert budgets.at_most(prompts[UNPRICED]) == amount(160)
    assert budgets.at_most(prompts[None]) == budgets.at_most(prompts[PRICED]) == Amount(160, cost_of(PRICED))


def test_the_dearest_model_that_may_answer_is_reserved() -> None:
    budgets = Budgets(settings(dollars_per_day="0.5", ai_fallback_models=["demo", DEARER]))
    assert budgets.at_most(Prompt([UserMessage("x" * 240)], model=PRICED)).cost == cost_of(DEARER) > cost_of(PRICED)


def cost_of(model: str) -> Decimal:
    return price(model, 60, 100) or Decimal(0)


def test_prices() -> None:
    assert price("demo", 1, 1) == 0
    assert price(PRICED, 1_000, 1_000) == Decimal("0.018")
    assert price(UNPRICED, 1, 1) is price("openai:nonsense", 1, 1) is price("nonsense", 1, 1) is None


@pytest.fixture
def _logged() -> None:
    """Configures logging as an application does; until then structlog prints."""
    configure_logging(settings())


@pytest.mark.usefixtures("_logged")
@pytest.mark.parametrize(
    ("model", "budget", "warned"),
    [
        (UNPRICED, "dollars_per_day", True),
        (UNPRICED, "dollars_per_month", True),
        (UNPRICED, "tokens_per_day", False),
        (PRICED, "dollars_per_day", False),
        (PRICED.split(":")[1], "dollars_per_day", False),
    ],
)
def test_a_budget_in_dollars_that_counts_nothing_is_warned_of(
    caplog: pytest.LogCaptureFixture, model: str, budget: str, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, "app.budgets"):
        open_budgets(settings(ai_model=model, **{budget: 1_000}))
    assert [record.name for record in caplog.records] == ["app.budgets"] * warned
