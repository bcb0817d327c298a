"""Counts usage of models as metrics, once it is stored, so that their sums are those of all users' usage."""

from app.core.telemetry.meters import meter
from app.repositories.usage import UsageRecord

_tokens = meter.create_counter("app.tokens", "{token}", "Tokens that models read and wrote.")
_cost = meter.create_counter("app.cost", "USD", "Cost of requests to models, as far as their prices are known.")


def count_usage(feature: str, used: UsageRecord | None) -> None:
    if used is None:
        return
    attributes = {"app.feature": feature, "app.model": used.model}
    for kind, tokens in (("input", used.input_tokens), ("output", used.output_tokens)):
        if tokens:
            _tokens.add(tokens, {**attributes, "app.token.type": kind})
    if used.cost:
        _cost.add(float(used.cost), attributes)
