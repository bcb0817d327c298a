"""Hashes passwords, and signs the tokens that stand for having given one."""

import re
import secrets
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, TypeVar
from unicodedata import normalize
from uuid import UUID

import jwt
from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.core.config import Settings
from app.core.errors import Invalid, Unauthenticated
from app.core.fair_queue import Client, FairQueue

ALGORITHM = "HS256"  # PyJWT is typed only where the package for other algorithms is installed
HASHING_THREADS = 2
PASSWORD_CHARACTERS = 128
TYPED_CHARACTERS = 4 * PASSWORD_CHARACTERS
"""Limits what is typed: a character that is composed for storing may come in four parts."""
API_KEY_START = "ak_"
WAITING_HASHES = 200
TOKENS_REMEMBERED = 4_096
COMMON_PASSWORDS = Path(__file__).parent / "common_passwords.txt"

_OTHER_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")

T = TypeVar("T")


def normalize_password(text: str) -> str:
    """Returns the one spelling of a password: composed (NFC) and with plain spaces, as RFC 8265 (OpaqueString) says.

    A text that is too long in any spelling stays as it is, since sorting a pile of accents would take minutes.
    """
    return text if len(text) > TYPED_CHARACTERS else normalize("NFC", _OTHER_SPACES.sub(" ", text))


class Passwords:
    """Hashes passwords with Argon2 in a few threads of its own, in fair turns: each takes about 0.25 s and 64 MiB.

    Hashes are made of normalized passwords; those of 0.1, made of the text as it was typed, work as well.
    """

    def __init__(self, settings: Settings) -> None:
        # Argon2 has one lane: HASHING_THREADS decides how much runs at once, and other threads must not wait for it.
        time, memory = settings.argon2_time_cost, settings.argon2_memory_kib
        hasher = Argon2Hasher(time_cost=time, memory_cost=memory, parallelism=1)
        self._argon2 = PasswordHash((hasher,))
        self._hasher = hasher
        self._threads = CapacityLimiter(HASHING_THREADS)
        self._turns = FairQueue(HASHING_THREADS, WAITING_HASHES)
        self._client = Client()

    def of(self, client: Client) -> "Passwords":
        """Returns an instance with the same threads, whose turns are this client's."""
        mine = copy(self)
        mine._client = client
        return mine

    async def hash(self, password: str, account: str = "") -> str:
        """Hashes a password. Raises Busy when too many wait already."""
        return await self._in_turn(account, self._argon2.hash, normalize_password(password))

    async def verify(self, password: str, hashed: str | None, account: str = "") -> bool:
        """Checks a password. Without a hash it returns False after as long, so that time tells nothing. Raises Busy."""
        return await self.find_spelling(password, hashed, account) is not None

    async def find_spelling(self, password: str, hashed: str | None, account: str = "") -> str | None:
        """Returns the spelling that the hash was made of: the normalized password, or what was typed, or None."""
        for spelling in dict.fromkeys((normalize_password(password), password)):
            if hashed is None:
                await self.hash(spelling, account)
            elif await self._in_turn(account, self._argon2.verify, spelling, hashed):
                return spelling
        return None

    def is_outdated(self, hashed: str, spelling: str) -> bool:
        """Tells whether the hash has another cost than the settings ask for, or is not of the normalized password."""
        return spelling != normalize_password(spelling) or self._hasher.check_needs_rehash(hashed)

    async def _in_turn(self, account: str, work: Callable[..., T], *arguments: str) -> T:
        async with self._turns.acquire(self._client, account):
            return await to_thread.run_sync(work, *arguments, limiter=self._threads)


def is_common(password: str) -> bool:
    """Tells whether the password, in whatever case, is among the common ones that attackers try first."""
    return f"\n{password.lower()}\n" in _common_passwords()


@cache
def _common_passwords() -> str:
    return COMMON_PASSWORDS.read_text(encoding="utf-8")


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """Returns the hash that is stored of a random secret, which cannot be guessed, so the hash need not be slow."""
    return sha256(secret.encode()).hexdigest()


class AccessTokens:
    """Signs JWTs: `sub` is the user's id, `sid` the id of the session, which can be ended at any time."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.secret_key.get_secret_value()

    def issue(self, user_id: UUID, session_id: UUID, expires_at: datetime) -> str:
        return _signed(self._key, {"sub": str(user_id), "sid": str(session_id), "exp": expires_at})

    def read(self, token: str) -> tuple[UUID, UUID]:
        """Returns the ids of the user and the session. Raises Unauthenticated."""
        try:
            user_id, session_id, expires_at = _session(self._key, token)
        except (jwt.PyJWTError, ValueError):
            raise Unauthenticated("The access token or API key is not valid.") from None
        if expires_at <= time():
            raise Unauthenticated("The access token has expired; refresh it or log in again.")
        return user_id, session_id

    def recognize(self, token: str) -> tuple[UUID, UUID] | None:
        """Returns the ids of the user and the session of a token that was issued, even if it has expired, or None."""
        try:
            return _session(self._key, token)[:2]
        except (jwt.PyJWTError, ValueError):
            return None


class InvalidToken(Invalid):
    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("This link or token is not valid any more; ask for a new one.")


class EmailTokens:
    """Signs JWTs: `aud` is their purpose, `jti` the id of the row without which they are void."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.secret_key.get_secret_value()

    def issue(self, user_id: UUID, id: UUID, purpose: str, expires_at: datetime) -> str:
        return _signed(self._key, {"sub": str(user_id), "jti": str(id), "aud": purpose, "exp": expires_at})

    def read(self, token: str, *purposes: str) -> tuple[str, UUID, UUID]:
        """Returns which of the purposes the token has, the user's id and the row's. Raises InvalidToken."""
        try:
            claims = _verified(self._key, token, "jti", audience=purposes)
            return claims["aud"], UUID(claims["sub"]), UUID(claims["jti"])
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None


@lru_cache(maxsize=TOKENS_REMEMBERED)
def _session(key: str, token: str) -> tuple[UUID, UUID, float]:
    """Caches tokens whose signature was valid and need not be checked again; callers must check the expiry."""
    claims = _verified(key, token, "sid", verify_exp=False)
    return UUID(claims["sub"]), UUID(claims["sid"]), float(claims["exp"])


def _signed(key: str, claims: dict[str, Any]) -> str:
    return jwt.encode({"iat": datetime.now(UTC), **claims}, key, ALGORITHM)  # pyright: ignore[reportUnknownMemberType]


def _verified(
    key: str, token: str, *required: str, audience: Sequence[str] | None = None, verify_exp: bool = True
) -> dict[str, Any]:
    # The clock of the process that issued it may be ahead of this one's; that is no reason to refuse it.
    options: Any = {"require": ["exp", "sub", *required], "verify_exp": verify_exp, "verify_iat": False}
    return jwt.decode(token, key, [ALGORITHM], audience=audience, options=options)  # pyright: ignore[reportUnknownMemberType]
