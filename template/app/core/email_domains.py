"""Knows the domains that no mail from outside reaches, since everybody may use them in networks of their own."""

from collections.abc import Iterable

import email_validator

RESERVED = frozenset(
    {
        # special-use names of IANA (RFC 6761 and later); `example` is not one that applications should treat as such
        *("alt", "arpa", "invalid", "local", "localhost", "onion", "test"),
        # reserved by ICANN for private use, or never to be delegated
        *("internal", "corp", "home", "mail"),
        # names of private networks in RFC 6762, appendix G, and in the software of many routers
        *("intranet", "lan", "localdomain", "private"),
    }
)

# `Email` must accept the addresses of existing accounts; services ask `is_reserved` about those of new ones.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def is_reserved(domain: str, allowed: Iterable[str] = ()) -> bool:
    """Tells whether a domain is reserved, and neither it nor a domain above it is allowed."""
    return _ends_in(domain, RESERVED) and not _ends_in(domain, allowed)


def reserved_domain(value: str) -> str:
    """Returns a reserved domain in the form that it has in addresses. Raises ValueError when it is none."""
    try:
        parts = email_validator.validate_email(f"x@{value}", check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError:
        raise ValueError("name reserved domains such as corp.internal or lan, separated by commas") from None
    if not is_reserved(parts.domain):
        raise ValueError(f"{parts.domain} is not reserved, so its addresses are accepted without it: leave it out")
    return parts.domain


def _ends_in(domain: str, names: Iterable[str]) -> bool:
    return any(f".{domain}".endswith(f".{name}") for name in names)
