"""What the database's unique rules refuse, in words for people."""

import contextlib
from collections.abc import Iterator

from tortoise.exceptions import IntegrityError

from kit.errors import Refusal


@contextlib.contextmanager
def unique(**taken: type[Refusal]) -> Iterator[None]:
    """Turn the violation of a named unique rule into its refusal: ``unique(rooms_name=RoomNameTaken)``.

    The transaction is lost by then, so the refusal must leave the unit of work. Any other violation passes as it is.
    """
    try:
        yield
    except IntegrityError as error:
        for constraint, refusal in taken.items():
            # With its quotes, so that the name of one rule cannot be found inside another's.
            if f'"{constraint}"' in str(error):
                raise refusal() from error
        raise
