"""Passwords of staff: hashed with argon2id (RFC 9106, the defaults of argon2-cffi) on threads of their own."""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# Each hash takes 64 MiB while it runs: four at once bound what a storm of sign-ins can take, the rest wait in line.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="password")
_hasher = PasswordHasher()


@cache
def _nobody() -> str:
    """The hash of a password that nobody has, so that a sign-in without a member of staff takes its time too."""
    return _hasher.hash(secrets.token_urlsafe(32))


async def hash_password(password: str) -> str:
    """What is stored of a password. Takes some 50 ms on a thread; never call it inside a transaction."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def password_fits(stored: str | None, password: str) -> bool:
    """Whether the password is the one that ``stored`` was made of. None takes as long and never fits."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _fits, stored, password)


def _fits(stored: str | None, password: str) -> bool:
    try:
        return _hasher.verify(stored or _nobody(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
