"""Password hashes and access tokens."""

from datetime import UTC, datetime
from uuid import UUID

import jwt
from anyio import CapacityLimiter, to_thread
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.core.config import Settings
from app.core.errors import Unauthenticated

ALGORITHM = "HS256"  # PyJWT is typed only where the package for other algorithms is installed
HASHING_THREADS = 2


class Passwords:
    """Argon2 in a few threads of its own: a hash costs a quarter of a second and 64 MiB, and must not starve others."""

    def __init__(self, settings: Settings) -> None:
        hasher = Argon2Hasher(time_cost=settings.argon2_time_cost, memory_cost=settings.argon2_memory_kib)
        self._argon2 = PasswordHash((hasher,))
        self._threads = CapacityLimiter(HASHING_THREADS)

    async def hash(self, password: str) -> str:
        return await to_thread.run_sync(self._argon2.hash, password, limiter=self._threads)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Without a hash to compare with, takes as long and answers False, so that time tells nothing."""
        if hashed is None:
            await self.hash(password)
            return False
        return await to_thread.run_sync(self._argon2.verify, password, hashed, limiter=self._threads)


class AccessTokens:
    """Signed JWTs: `sub` is the user's id, `sid` the id of the session that can be ended at any time."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.secret_key.get_secret_value()

    def issue(self, user_id: UUID, session_id: UUID, expires_at: datetime) -> str:
        claims = {"sub": str(user_id), "sid": str(session_id), "iat": datetime.now(UTC), "exp": expires_at}
        return jwt.encode(claims, self._key, ALGORITHM)  # pyright: ignore[reportUnknownMemberType]

    def read(self, token: str) -> tuple[UUID, UUID]:
        """User id and session id. Raises Unauthenticated."""
        try:
            claims = jwt.decode(  # pyright: ignore[reportUnknownMemberType]
                token, self._key, [ALGORITHM], options={"require": ["exp", "sub", "sid"]}
            )
            return UUID(claims["sub"]), UUID(claims["sid"])
        except (jwt.PyJWTError, ValueError):
            raise Unauthenticated("The access token is not valid; log in again.") from None
