"""The register of what lies encrypted in the database: changing a key goes by it, and a test finds what is missing."""

from dataclasses import dataclass

from models.customer import ID_NUMBER_CONTEXT, PHONE_CONTEXT
from models.export import CONTENT_CONTEXT
from models.merchant_account import APIV3_KEY_CONTEXT, PRIVATE_KEY_CONTEXT
from models.second_factor import SECRET_CONTEXT as SECOND_FACTOR_CONTEXT
from models.wechat_app import PUSH_KEY_CONTEXT, PUSH_TOKEN_CONTEXT, SECRET_CONTEXT, TOKEN_CONTEXT
from models.wechat_push import BODY_CONTEXT


@dataclass(frozen=True)
class SecretColumn:
    """A column that ``models.secret.encrypt`` writes with ``context``, and its blind index if it has one."""

    table: str
    column: str
    context: str
    index: str | None = None
    key: str = "id"
    batch: int = 500  # rows read at once when the key is changed

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


SECRET_COLUMNS = (
    SecretColumn("customers", "phone_cipher", PHONE_CONTEXT, "phone_index"),
    SecretColumn("customers", "id_number_cipher", ID_NUMBER_CONTEXT),
    SecretColumn("residents", "phone_cipher", PHONE_CONTEXT, "phone_index"),
    SecretColumn("occupancy_requests", "phone_cipher", PHONE_CONTEXT, "phone_index"),
    SecretColumn("merchant_accounts", "private_key_cipher", PRIVATE_KEY_CONTEXT),
    SecretColumn("merchant_accounts", "apiv3_key_cipher", APIV3_KEY_CONTEXT),
    SecretColumn("wechat_apps", "secret_cipher", SECRET_CONTEXT),
    SecretColumn("wechat_apps", "push_token_cipher", PUSH_TOKEN_CONTEXT),
    SecretColumn("wechat_apps", "push_key_cipher", PUSH_KEY_CONTEXT),
    SecretColumn("wechat_pushes", "body_cipher", BODY_CONTEXT),
    SecretColumn("wechat_tokens", "token_cipher", TOKEN_CONTEXT, key="app_id"),
    SecretColumn("second_factors", "secret_cipher", SECOND_FACTOR_CONTEXT),
    SecretColumn("exports", "content_cipher", CONTENT_CONTEXT, batch=10),
)
