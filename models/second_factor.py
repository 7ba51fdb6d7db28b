"""The second factor of staff: a code that their phone computes (TOTP, RFC 6238), and codes on paper besides."""

from tortoise import fields

from models.base import Row

SECRET_CONTEXT = "second_factors.secret"
CHALLENGE_CONTEXT = "second_factor.challenge"


class SecondFactor(Row):
    """The secret that a member of staff shares with their phone, encrypted; at most one each.

    It counts from ``confirmed_at`` on. ``last_step`` is the newest time step whose code was accepted; none up to it is
    accepted again.
    """

    organization_id = fields.UUIDField()
    staff_id = fields.UUIDField(unique=True)
    secret_cipher = fields.TextField()
    confirmed_at = fields.DatetimeField(null=True)
    last_step = fields.BigIntField(null=True)

    class Meta:
        table = "second_factors"


class RecoveryCode(Row):
    """One of ten, good once. ``code_index`` is its keyed fingerprint; the code is told once and kept nowhere."""

    # The key is the secret of the second factor, which lies encrypted beside it: a change of keys voids no code.

    organization_id = fields.UUIDField()
    staff_id = fields.UUIDField()
    code_index = fields.CharField(max_length=64)
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "recovery_codes"
        unique_together = (("staff_id", "code_index"),)
