"""One webhook on its way: signed by Standard Webhooks, posted to an address that was checked. Knows no database."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

import anyio
import httpx2
from standardwebhooks import Webhook

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.json import JsonObject

TIMEOUT_S: Final = 10.0  # for all of it: a receiver that answers a byte at a time holds nobody up
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Prefixes that carry an IPv4 address in their last 32 bits.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class DeliveryFailed(LuthierError):
    """The receiver did not take it, in words for the outbox. `final`: it never will."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


def sign(delivery_id: str, body: str, secrets: Sequence[str], now: float) -> dict[str, str]:
    """The headers by which a receiver knows us: one signature a secret."""
    at = datetime.fromtimestamp(int(now), UTC)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(Webhook(secret).sign(delivery_id, at, body) for secret in secrets),
    }


def post(
    url: str, delivery_id: str, event: JsonObject, secrets: Sequence[str], *, now: float, private_hosts: bool
) -> int:
    """Send an event and answer the receiver's status. Redirects are not followed, its answer is not read.

    The host's addresses are looked up once and checked, and the connection goes to a checked one, so that a name cannot
    answer with one address for the check and another for the connection. The environment's proxies are not asked: they
    would look the name up again.
    Errors: `DeliveryFailed` when there is no answer.
    """
    parts = check_url(url, private_hosts=private_hosts)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolve(host, port, private_hosts=private_hosts)
    shown = f"[{address}]" if address.version == 6 else str(address)
    target = parts._replace(netloc=f"{shown}:{port}", fragment="").geturl()
    named = httpx2.URL(url)  # its host in ASCII
    body = json.dumps(event, separators=(",", ":"))
    headers = {
        "host": named.netloc.decode("ascii"),
        "content-type": "application/json",
        "user-agent": "Luthier-Webhooks/1",
        **sign(delivery_id, body, secrets, now),
    }
    sni = {"sni_hostname": named.raw_host.decode("ascii")}

    async def exchange() -> int:
        with anyio.fail_after(TIMEOUT_S):
            async with (
                httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", target, content=body, headers=headers, extensions=sni) as answer,
            ):
                return answer.status_code

    try:
        return anyio.run(exchange)
    except (httpx2.HTTPError, TimeoutError) as error:
        raise DeliveryFailed(f"{url} does not answer: {type(error).__name__} {error}".strip()) from error


def check_url(url: str, *, private_hosts: bool) -> SplitResult:
    """The parts of an acceptable URL. Names are looked up only when something is sent.

    Errors: `InvalidRequest` for one that is not.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL) as error:
        raise _bad(f"not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad("expected an https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise _bad("a user name or password in it would be sent in the clear to logs; remove it")
    if private_hosts:
        return parts
    if parts.scheme != "https":
        raise _bad("expected https://; http:// is accepted with LUTHIER_WEBHOOK_PRIVATE_HOSTS=true alone")
    try:
        literal = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return parts
    if not is_public(literal):
        raise _bad(_PRIVATE.format(host=parts.hostname, address=literal))
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is out on the internet, IPv4 addresses inside IPv6 ones included."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved)


_PRIVATE: Final = (
    "{host} is {address}, an address of a private network; webhooks go there with "
    "LUTHIER_WEBHOOK_PRIVATE_HOSTS=true alone"
)


def _resolve(host: str, port: int, *, private_hosts: bool) -> Address:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryFailed(f"no address for {host}: {error}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not private_hosts and not is_public(address):
            raise DeliveryFailed(_PRIVATE.format(host=host, address=address))
    return addresses[0]


def _bad(reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid 'url': {reason}.", code="invalid_value", param="url")
