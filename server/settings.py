"""Settings, from the environment. Production unless ``LINLI_ENV=dev``."""

import base64
import json
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kit.crypto import Keyring
from server.address import Network, read_networks
from server.postgres_home import private_folder

PRODUCTION_MINI_PROGRAM_BASE = "https://api.weixin.qq.com"


class Settings(BaseSettings):
    """Every setting, each read from the variable named as its alias. Secrets are never printed."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", populate_by_name=True)

    env: Literal["dev", "production"] = Field("production", alias="LINLI_ENV")
    secrets: Path | None = Field(
        None, alias="LINLI_SECRETS", description="Folder with a file per secret setting, named like it in lower case"
    )
    state: Path = Field(
        Path(".linli"), alias="LINLI_STATE", description="Folder of the embedded server, dev keys, logs"
    )
    database_url: SecretStr | None = Field(None, alias="DATABASE_URL", description="postgresql://… of the application")
    owner_database_url: SecretStr | None = Field(
        None, alias="LINLI_OWNER_DATABASE_URL", description="postgresql://… of the owner, for migrations"
    )
    host: str = Field("127.0.0.1", alias="LINLI_HOST")
    port: int = Field(8000, ge=1, le=65535, alias="LINLI_PORT")
    sandbox_port: int = Field(8100, ge=1, le=65535, alias="LINLI_SANDBOX_PORT")
    public_base: str | None = Field(
        None, alias="LINLI_PUBLIC_BASE", description="https://… under which WeChat finds us"
    )
    wechat_pay_base: str | None = Field(None, alias="LINLI_WECHAT_PAY_BASE", description="dev only: the sandbox")
    wechat_api_base: str | None = Field(None, alias="LINLI_WECHAT_API_BASE", description="dev only: the sandbox")
    field_keys: SecretStr | None = Field(
        None, alias="LINLI_FIELD_KEYS", description='JSON {"key id": "base64 of 32 bytes", …}; the last one writes'
    )
    index_key: SecretStr | None = Field(
        None,
        alias="LINLI_INDEX_KEY",
        description="base64 of at least 32 bytes, or JSON like LINLI_FIELD_KEYS; the last one writes, all are searched",
    )
    pool_size: int = Field(16, ge=2, le=200, alias="LINLI_POOL_SIZE")
    crash_at: str | None = Field(
        None,
        alias="LINLI_CRASH_AT",
        description="dev only: where to end as if killed, <place>.before_commit:3 and such",
    )
    drain_s: int | None = Field(
        None, ge=0, le=60, alias="LINLI_DRAIN_S",
        description="Seconds between 'not ready' and the end of taking requests; 5, in dev 0",
    )  # fmt: skip
    metrics_host: str = Field("127.0.0.1", alias="LINLI_METRICS_HOST")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        alias="LINLI_METRICS_PORT",
        description="Where this process answers /metrics; none: nowhere",
    )
    redis_url: SecretStr | None = Field(
        None, alias="REDIS_URL", description="redis://…, needed as soon as more than one API process serves"
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), alias="LINLI_TRUSTED_PROXIES", description="networks whose X-Forwarded-For is believed: 10.0.0.0/8,::1"
    )
    rate_limits: Literal["on", "off"] = Field("on", alias="LINLI_RATE_LIMITS", description="off: dev only, under load")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LINLI_LOG_LEVEL")

    @property
    def dev(self) -> bool:
        return self.env == "dev"

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _read_networks(cls, given: object) -> object:
        return read_networks(given) if isinstance(given, str) else given

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not given.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("REDIS_URL must begin with redis://, rediss:// or unix://")
        return given

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.dev:
            return self
        if self.crash_at:
            raise ValueError("LINLI_CRASH_AT is for LINLI_ENV=dev only")
        if self.wechat_pay_base or self.wechat_api_base:
            raise ValueError("LINLI_WECHAT_PAY_BASE and LINLI_WECHAT_API_BASE are for LINLI_ENV=dev only")
        if self.rate_limits == "off":
            raise ValueError("LINLI_RATE_LIMITS=off is for LINLI_ENV=dev only")
        return self

    def draining_s(self) -> int:
        """How long an API process that was asked to end goes on taking requests while it says that it is not ready."""
        return self.drain_s if self.drain_s is not None else 0 if self.dev else 5

    def redis(self) -> str | None:
        """The address of Redis, if there is one."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    def callback_base(self) -> str:
        """Where WeChat finds us, without a trailing slash."""
        if self.public_base:
            return self.public_base.rstrip("/")
        if self.dev:
            return f"http://127.0.0.1:{self.port}"
        raise ValueError("LINLI_PUBLIC_BASE is not set: WeChat needs an https address to report payments to")

    def pay_base(self) -> str:
        """WeChat Pay's address: the sandbox in dev, else WeChat's own."""
        if not self.dev:
            return "https://api.mch.weixin.qq.com"
        return (self.wechat_pay_base or f"http://127.0.0.1:{self.sandbox_port}").rstrip("/")

    def api_base(self) -> str:
        """The mini-program server API's address: the sandbox in dev, else WeChat's own."""
        if not self.dev:
            return PRODUCTION_MINI_PROGRAM_BASE
        return (self.wechat_api_base or f"http://127.0.0.1:{self.sandbox_port}").rstrip("/")

    def require_database_url(self, *, owner: bool = False) -> str:
        """The database to use; ``owner`` asks for the owner's door, which defaults to the same."""
        url = (self.owner_database_url if owner and self.owner_database_url else None) or self.database_url
        if url is None:
            raise ValueError("DATABASE_URL is not set (for the demo of this machine, set LINLI_ENV=dev)")
        return url.get_secret_value()

    def with_database(self, url: str, owner_url: str) -> "Settings":
        """These settings with the embedded server's doors."""
        return self.model_copy(update={"database_url": SecretStr(url), "owner_database_url": SecretStr(owner_url)})

    def keyring(self) -> Keyring:
        """The keys for fields at rest; in dev made on the first run and kept in the state folder, mode 0600."""
        if self.field_keys and self.index_key:
            keys = _named_keys("LINLI_FIELD_KEYS", self.field_keys.get_secret_value())
            text = self.index_key.get_secret_value().strip()
            # One key without a name is the first one; its indexes carry no id.
            index_keys = _named_keys("LINLI_INDEX_KEY", text if text.startswith("{") else json.dumps({"": text}))
            index_id, index_key = index_keys.popitem()
            return Keyring(keys, list(keys)[-1], index_key, index_id, index_keys)
        if not self.dev:
            raise ValueError("LINLI_FIELD_KEYS and LINLI_INDEX_KEY are not set (see docs/production.md)")
        return _dev_keyring(self.state / "keys.json")


def _named_keys(variable: str, text: str) -> dict[str, bytes]:
    """The keys of ``{"key id": "base64", …}`` in their order. A ValueError names the variable and no key."""
    try:
        keys = {str(name): base64.b64decode(key, validate=True) for name, key in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f'{variable} is not JSON of the form {{"key id": "base64 of 32 bytes"}}') from None
    if not keys:
        raise ValueError(f"{variable} holds no key")
    return keys


def _dev_keyring(path: Path) -> Keyring:
    if not path.exists():
        private_folder(path.parent)
        made = {name: base64.b64encode(secrets.token_bytes(32)).decode() for name in ("dev1", "index")}
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
        try:
            os.link(temporary, path)  # of two first starts at once, one wins and both read its keys
        except FileExistsError:
            path.chmod(0o600)
        finally:
            temporary.unlink()
    kept = json.loads(path.read_text())
    return Keyring({"dev1": base64.b64decode(kept["dev1"])}, "dev1", base64.b64decode(kept["index"]))


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once. What the environment does not say is looked for in LINLI_SECRETS."""
    return Settings(_secrets_dir=os.environ.get("LINLI_SECRETS"))  # type: ignore[call-arg]
