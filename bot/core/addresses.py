"""Exchange URLs: whether they are on this machine, and whether they may be used unencrypted."""

import ipaddress
from urllib.parse import urlsplit

from bot.core.errors import ConfigError

ENCRYPTED = frozenset({"https", "wss"})
PLAIN = frozenset({"http", "ws"})


def is_loopback(url: str) -> bool:
    """Return whether the URL's host is this machine.

    >>> is_loopback("ws://127.0.0.1:8080"), is_loopback("wss://fstream.binance.com")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return the host of a URL, or a description where it has none.

    >>> host_of("https://elsewhere.example/fapi?signature=0a1b"), host_of("/here")
    ('elsewhere.example', 'another path')
    """
    try:
        return (urlsplit(url).hostname or "another path")[:100]
    except ValueError:
        return "an address that cannot be read"


def require_encrypted(url: str, setting: str) -> str:
    """Return the URL if API keys may be sent to it: encrypted, or on this machine.

    >>> require_encrypted("http://127.0.0.1:8080", "venue.testnet.rest_url")
    'http://127.0.0.1:8080'

    Raises
    ------
    ConfigError
        The URL is neither, or is invalid; the message names the setting.
    """
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in ENCRYPTED | PLAIN or not host:
        raise ConfigError(f"{setting} is no address of an exchange: {url!r}; write one like https://fapi.binance.com")
    if scheme in PLAIN and not is_loopback(url):
        raise ConfigError(
            f"{setting} = {url} is not encrypted: write {'wss' if scheme == 'ws' else 'https'}:// (plain {scheme}:// is "
            "only for an exchange on this machine)"
        )
    return url
