"""Settings, resolved once: built-in defaults, then `luthier.toml`, then `LUTHIER_…`, then the command line.

The only place that reads the environment; rooms below get the few values they need, children get `spec.json`.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest, Unauthenticated
from luthier.core.prices import DEFAULT, Price


@dataclass(frozen=True)
class Settings:
    """All settings. In `luthier.toml` the same names, with `[prices.NAME]` and `[bases.NAME]` tables; in the
    environment `LUTHIER_` and upper case."""

    data: Path = Path("~/.luthier")  # database, blobs, runs: everything that must survive
    cache: Path = Path("~/.cache/luthier")  # base models: can be fetched again
    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None  # PEM; with tls_key the server speaks https
    tls_key: Path | None = None
    behind_proxy: bool = False  # something in front speaks https for us, and tells who asks
    api_key: str | None = None  # presets the first key instead of making one
    organization: str = "personal"  # the ORG in `ft:BASE:ORG:SUFFIX:ID`
    default_base: str = "smollm2-135m-instruct"
    bases: Mapping[str, BaseSource] = field(default_factory=dict)  # beside the built-in ones
    aliases: Mapping[str, str] = field(default_factory=dict)  # names that code already says -> base or tuned model
    database_url: str | None = None
    blobs_url: str | None = None
    smtp_url: str | None = None  # smtp://user:password@host:587, smtps://…
    mail_to: str | None = None
    mail_from: str = "luthier@localhost"
    webhook_private_hosts: bool = False  # allow webhooks into private networks
    cors_origins: tuple[str, ...] = ()
    requests_per_minute: int = 60_000  # of a project, in one server; more than clients send unless they run wild
    retention_days: int | None = None  # how long stored chats, responses and trainers' logs are kept
    compute: str = "local"
    training_memory: int | None = None  # bytes that a training may take
    warm_trainer: bool = True  # one is ready at the start, after each job and 15 minutes on: it begins 2 to 4 s sooner
    serving_memory: int | None = None  # bytes that the engines of several bases may take together
    engine: str = "llamacpp"  # or vllm:URL, vllm:FOLDER
    engines: Mapping[str, str] = field(default_factory=dict)  # of bases that another engine serves
    engine_api_key: str = ""  # of vLLM and other servers that somebody else runs
    teacher: str | None = None  # a model that `distil` asks
    teacher_url: str | None = None  # its server, where it is another one that speaks OpenAI's API
    teacher_api_key: str | None = None
    prices: Mapping[str, Price] = field(default_factory=lambda: dict(DEFAULT))

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data / 'luthier.db'}"

    @property
    def blobs(self) -> str:
        """URL of the blob store."""
        return self.blobs_url or (self.data / "blobs").as_uri()

    @property
    def base_url(self) -> str:
        """What clients put into `OPENAI_BASE_URL`."""
        host = socket.gethostname() if self.host in {"0.0.0.0", "::", ""} else self.host
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    @property
    def key_file(self) -> Path:
        """Where the first key is kept for client commands on this machine."""
        return self.data / "api_key"

    @property
    def added_bases(self) -> Path:
        """Where the base models stand that `luthier models add` added."""
        return self.data / "bases"

    @property
    def secret_keys(self) -> Path:
        """The keys that encrypt the secrets in the database."""
        return self.data / "secret_keys"

    @property
    def runs(self) -> Path:
        """Where run folders lie."""
        return self.data / "runs"


def load(environment: Mapping[str, str] | None = None, *, toml: Path | None = None, **overrides: object) -> Settings:
    """The settings of this process. `overrides` are the command line's; those that are None are passed over.

    Errors: `InvalidRequest` naming the setting and what it should be.
    """
    environment = os.environ if environment is None else environment
    toml = toml or Path("luthier.toml")
    raw: dict[str, object] = {}
    if toml.exists():
        try:
            raw.update(tomllib.loads(toml.read_text()))
        except tomllib.TOMLDecodeError as error:
            raise InvalidRequest(f"{toml}: not valid TOML: {error}") from error
    known = {f.name for f in fields(Settings)}
    for name in raw:
        if name not in known:
            raise InvalidRequest(f'{toml}: unknown setting "{name}"; known are {", ".join(sorted(known))}')
    raw.update({n: environment[f"LUTHIER_{n.upper()}"] for n in known if environment.get(f"LUTHIER_{n.upper()}")})
    raw.update({n: v for n, v in overrides.items() if v is not None})
    settings = replace(Settings(), **{n: _parse(n, v) for n, v in raw.items()})  # type: ignore[arg-type]  # _parse checks
    return replace(settings, data=settings.data.expanduser().absolute(), cache=settings.cache.expanduser().absolute())


@dataclass(frozen=True)
class Access:
    """Which server a client talks to, and by which key. `local`: found without being told."""

    base_url: str
    api_key: str
    local: bool


def find_access(settings: Settings, environment: Mapping[str, str] | None = None) -> Access:
    """`OPENAI_BASE_URL` and `OPENAI_API_KEY`; without a base URL this machine's server, by the key in its data folder.

    Errors: `Unauthenticated` when there is no key, saying where one would be looked for.
    """
    environment = os.environ if environment is None else environment
    if base_url := environment.get("OPENAI_BASE_URL"):
        if key := environment.get("OPENAI_API_KEY"):
            return Access(base_url, key, local=False)
        raise Unauthenticated(
            f"OPENAI_BASE_URL is {base_url}, but OPENAI_API_KEY is not set; set it to a key of that server"
        )
    if settings.api_key:
        return Access(settings.base_url, settings.api_key, local=True)
    try:
        return Access(settings.base_url, settings.key_file.read_text().strip(), local=True)
    except FileNotFoundError:
        raise Unauthenticated(
            f"no API key in {settings.key_file}; start the server here (luthier serve), or name another one by "
            "OPENAI_BASE_URL and OPENAI_API_KEY"
        ) from None


def _parse(name: str, value: object) -> object:
    try:
        match name:
            case "data" | "cache" | "tls_cert" | "tls_key":
                return Path(str(value))
            case "port" | "requests_per_minute" | "retention_days":
                return int(str(value))
            case "training_memory" | "serving_memory":
                return _bytes(str(value))
            case "webhook_private_hosts" | "behind_proxy":
                return _boolean(value)
            case "bases":
                return _bases(value)
            case "aliases" | "engines":
                return dict(value) if isinstance(value, Mapping) else _pairs(str(value))
            case "cors_origins":
                return tuple(value) if isinstance(value, (list, tuple)) else tuple(str(value).split(","))
            case "prices":
                return {**DEFAULT, **_prices(value)}
            case _:
                return str(value)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidRequest(f"setting {name}: {value!r} will not do: {error}") from error


def _bytes(text: str) -> int:
    """4GB, 900MB: as people say them."""
    count, power = text.strip().upper().removesuffix("B"), {"M": 10**6, "G": 10**9}
    if count[-1:] not in power:
        raise ValueError("give it as 4GB, or as 900MB")
    return int(float(count[:-1]) * power[count[-1]])


def _boolean(value: object) -> bool:
    text = str(value).lower()
    if text not in {"1", "true", "yes", "0", "false", "no"}:
        raise ValueError("give true or false")
    return text in {"1", "true", "yes"}


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, target = part.partition("=")
        if not (equals and name.strip() and target.strip()):
            raise ValueError(f'"{part}" is not NAME=MODEL')
        pairs[name.strip()] = target.strip()
    return pairs


def _bases(value: object) -> dict[str, BaseSource]:
    if not isinstance(value, Mapping):
        raise TypeError("give tables [bases.NAME] with source, sha256, licence")
    unpinned = {"sha256": "", "licence": "unknown"}
    return {str(name): BaseSource(name=str(name), **{**unpinned, **dict(table)}) for name, table in value.items()}


def _prices(value: object) -> dict[str, Price]:
    if not isinstance(value, Mapping):
        raise TypeError("give tables [prices.NAME] with training, input, cached_input, output")
    return {str(name): Price(**{k: float(v) for k, v in dict(table).items()}) for name, table in value.items()}
