"""The commands of the server's own machine: `serve`, `models pull`, `models add`. They open the rooms below."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import resource
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from luthier.core.settings import Settings

Data = Annotated[Path | None, typer.Option(help="Data folder.", show_default="~/.luthier")]
OPEN_FILES: Final = 10_000
GRACE_S: Final = 60  # what answers under way get to end when the server is told to stop; told again it stops at once


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8000")] = None,
    data: Data = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM), to speak https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool | None, typer.Option("--behind-proxy", help="A proxy in front speaks https.", show_default="no")
    ] = None,
) -> None:
    """Start the server: the API, the trainer's runner, and the engines, on one data folder.

    On another address than this machine's own it wants a certificate or a proxy.
    """
    from luthier.cli import logs
    from luthier.cli.display import hint, say
    from luthier.core.errors import Unavailable
    from luthier.core.settings import load

    settings = load(host=host, port=port, data=data, tls_cert=tls_cert, tls_key=tls_key, behind_proxy=behind_proxy)
    check_exposure(settings)
    listener = _listen(settings)
    logs.configure()
    _open_many_files()
    os.umask(0o077)  # whatever is written here and by children is for nobody else to read
    settings = replace(settings, port=listener.getsockname()[1])
    migrate_apart(settings)
    try:
        pull_base(settings, settings.default_base)
    except Unavailable as error:
        hint(f"{error.message}\nThe server starts without it.")

    import uvicorn

    from luthier.api.app import create_app
    from luthier.api.heads import LimitedHeads

    app = create_app(settings)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.collect()
            gc.freeze()  # what is here stays; looking through all of it once more stops every stream for 0.16 s
            if self.started:
                for line in welcome(settings, app.state.platform.first_key):
                    say(line)

    config = uvicorn.Config(
        app,
        http=LimitedHeads,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips="*" if settings.behind_proxy else None,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    try:
        Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        say("stopped; jobs go on when the server starts again")


def migrate_apart(settings: Settings) -> None:
    """Bring the tables up to date in a process that ends: Alembic would keep 12 MB of the server's memory."""
    from luthier.store.database import Database

    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.closing(Database(settings.database)) as database:
        if database.version().current:
            return
    command = [sys.executable, "-m", "luthier.cli.main", "migrate", "--data", str(settings.data)]
    if status := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise typer.Exit(status)


def check_exposure(settings: Settings) -> None:
    """Errors: `InvalidRequest` when keys and chats would go over a network in the clear."""
    from luthier.core.errors import InvalidRequest

    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidRequest("give --tls-cert and --tls-key together, or neither")
    if settings.tls_cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            wrong = error.strerror or error
            raise InvalidRequest(
                f"{settings.tls_cert} and {settings.tls_key}: {wrong}; give a certificate and its key as PEM files"
            ) from error
    if _loopback(settings.host) or settings.tls_cert or settings.behind_proxy:
        return
    raise InvalidRequest(
        f"{settings.host} can be reached from other machines, and keys and chats would go there in the clear. Give "
        "--tls-cert and --tls-key; or --behind-proxy, if a proxy in front speaks https and nobody else reaches this "
        "port; or leave --host away"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def welcome(settings: Settings, first_key: str | None) -> list[str]:
    """What the server says when it listens; the key on the first run alone."""
    lines = [f"Luthier listens on {settings.base_url}", f"Data: {settings.data}", ""]
    if first_key is not None:
        lines += [f"Your API key, shown this once (and kept in {settings.key_file}):", "", f"  {first_key}", ""]
    key = first_key or (f"$(cat {settings.key_file})" if settings.key_file.exists() else "YOUR_KEY")
    return [
        *lines,
        "For any OpenAI client:",
        "",
        f"  export OPENAI_BASE_URL={settings.base_url}",
        f"  export OPENAI_API_KEY={key}",
        "",
        "Next: luthier tune FILE.jsonl, or luthier chat " + settings.default_base,
    ]


def pull(name: Annotated[str, typer.Argument(help="The base model's name.", show_default=False)]) -> None:
    """Bring a base model onto this machine: downloaded, checked against its hash, made ready for training."""
    from luthier.cli.display import say
    from luthier.core.settings import load

    folder = pull_base(load(), name)
    say(f"{name} is in {folder}")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file of the model, quantised or not.")] = None,
    hf: Annotated[str | None, typer.Option(help="A Hugging Face model: its folder, or OWNER/REPO[@REVISION].")] = None,
    chat_template: Annotated[
        str | None, typer.Option(help="A file, or chatml, llama3, mistral, gemma, phi3.", show_default="its own")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Its licence.", show_default="what the model says")] = None,
    data: Data = None,
) -> None:
    """Add a base model of your own: tried in trainer and engine first, and pinned by its hash."""
    from luthier.cli.display import hint, pull_bar, say
    from luthier.core.bases import BaseSource
    from luthier.core.errors import InvalidRequest
    from luthier.core.settings import load
    from luthier.domain.bases import Bases
    from luthier.domain.bringing import bring
    from luthier.domain.models import require_free
    from luthier.store.database import Database
    from luthier.store.secrets import Secrets

    if (gguf is None) == (hf is None):
        raise InvalidRequest("give --gguf FILE or --hf FOLDER-OR-ID, one of them")
    local = gguf or (Path(hf or "") if Path(hf or "").expanduser().is_dir() else None)
    source = f"file:{local.expanduser().absolute()}" if local is not None else f"hf:{hf}"
    settings = load(data=data)
    bases = Bases(settings.cache, settings.bases, settings.added_bases)
    if settings.database_url or (settings.data / "luthier.db").exists():  # else no name is taken
        require_free(name, settings, bases, Database(settings.database, Secrets(settings.secret_keys)))
    with pull_bar() as bar:
        asked = BaseSource(name, source, sha256="", licence=licence or "", template=chat_template or "")
        facts, certificate = bring(bases, asked, bar)
    say(f"{name}: {facts.architecture}, {facts.parameters / 1e6:,.1f}M parameters, licence {facts.licence}")
    say(f"  SHA-256         {facts.sha256}")
    say(f"  context         {facts.context_tokens:,} tokens")
    say(f"  chat template   {facts.template}")
    say(f"  answers end at  {' or '.join(facts.stop_tokens)}")
    differ = f"differ by at most {certificate.largest_difference:.3f} in trainer and engine"
    say(f"  certificate     {certificate.compared} log-probabilities {differ}")
    if facts.template not in ("its own", "given"):
        hint(
            f"Warning: the model brings no chat template; {facts.template} stands in, by the tokens that it has. "
            "If it was trained on another, add it again with --chat-template."
        )


def pull_base(settings: Settings, name: str) -> Path:
    """Bring a base model onto this machine, with a bar where it must be fetched."""
    from luthier.cli.display import pull_bar
    from luthier.domain.bases import Bases

    bases = Bases(settings.cache, settings.bases, settings.added_bases)
    if bases.ready(name):
        return bases.get(name).path
    with pull_bar() as bar:
        return bases.pull(name, bar).path


def _open_many_files() -> None:
    """A stream takes a descriptor, and another one to its engine; shells and services give 1,024, or 256."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _listen(settings: Settings) -> socket.socket:
    from luthier.core.errors import Unavailable

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns off Nagle's delay only on sockets that name TCP; on others each answer waits some 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another by --port"
        ) from error
    return listener
