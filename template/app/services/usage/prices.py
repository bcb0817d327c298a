"""Calculates what requests to models cost."""

from decimal import Decimal

from app.services.ai.demo import DEMO


def price(model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
    """Returns US dollars, for a model named `demo` or `provider:name`; None when the price is not known."""
    if model == DEMO:
        return Decimal(0)
    from genai_prices import Usage, calc_price  # the import takes a quarter of a second, which the demo does without

    provider, _, name = model.partition(":")
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    try:
        return calc_price(usage, name, provider_id=provider).total_price
    except (LookupError, ValueError):
        return None
