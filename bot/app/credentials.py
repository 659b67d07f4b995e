"""The API key and its signing secret: an HMAC secret, or a private Ed25519 or RSA key.

Both are read once from the environment, or from the files that the `_FILE` variants name; errors are reported in one sentence
before anything is opened. A private key is returned decrypted and in the only form that the library recognises: it treats any
text of more than 120 characters as RSA, so an extra line end would turn an Ed25519 key into an RSA key, and it passes a
passphrase only to RSA keys. All secrets are registered with `hide` as they are read.
"""

import codecs
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from Crypto.PublicKey import ECC, RSA

from bot.core.errors import ConfigError
from bot.core.redact import hide

HMAC, ED25519, RSA_KIND = "HMAC", "Ed25519", "RSA"
KEY, SECRET, PRIVATE = "BINANCE_API_KEY", "BINANCE_API_SECRET", "BINANCE_PRIVATE_KEY"
PASSPHRASE: Final = "BINANCE_PRIVATE_KEY_PASS"
LEAST_RSA_BITS: Final = 2_048  # Binance's minimum
LINE: Final = 64  # characters per line of a PEM body
BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
TAKEN: Final = "the exchange takes Ed25519 or RSA keys"
MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The key of one account. `private_key` is a PEM without passphrase, empty for an HMAC key; `secret` then signs."""

    api_key: str
    secret: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    kind: str = HMAC


def secrets_for(venue: str) -> Credentials:
    """Return the credentials for a venue from the environment.

    Raises
    ------
    ConfigError
        One is missing, cannot be read, or is invalid.
    """
    key = _value(KEY)
    if not key:
        raise ConfigError(f"--venue {venue} needs {KEY} in the environment (or {KEY}_FILE pointing at a file)")
    secret, private = _value(SECRET), _value(PRIVATE)
    if "-----BEGIN" in key:
        raise ConfigError(
            f"{KEY} holds a PEM text: it takes the API key that the exchange shows, the private key goes to {PRIVATE}_FILE"
        )
    if secret and private:
        raise ConfigError(f"{SECRET} and {PRIVATE} are both set: keep the one that belongs to the key")
    if not secret and not private:
        raise ConfigError(
            f"--venue {venue} needs {SECRET} in the environment (or {SECRET}_FILE pointing at a file, "
            f"or {PRIVATE}_FILE pointing at a private key)"
        )
    hide(key)
    if private or "-----BEGIN" in secret:
        pem, kind = _private_key(private or secret, PRIVATE if private else SECRET)
        return Credentials(_word(key, KEY), private_key=pem, kind=kind)
    hide(secret)
    if key == secret:
        raise ConfigError(f"{KEY} and {SECRET} are the same: the exchange shows both when the key is made")
    return Credentials(_word(key, KEY), _word(secret, SECRET))


def _value(name: str) -> str:
    """Return the content of a variable, or of the file that its `_FILE` variant names; empty if neither is set."""
    value = os.environ.get(name, "").lstrip("\ufeff").strip()
    file = os.environ.get(f"{name}_FILE")
    if value or not file:
        return value
    try:
        data = Path(file).expanduser().read_bytes()
        encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
        return data.decode(encoding).strip()
    except OSError as error:
        raise ConfigError(f"{name}_FILE cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}_FILE holds no text: a private key is to be in PEM form") from None


def _word(value: str, name: str) -> str:
    if len(value.split()) != 1 or not value.isascii():
        raise ConfigError(f"{name} holds more than one word or strange characters: only the key itself may stand there")
    return value


def _private_key(text: str, name: str) -> tuple[str, str]:
    """Return a private key in the library's form, and its kind."""
    passphrase = os.environ.get(PASSPHRASE, "")
    _hide_pem(text, passphrase)
    blocks = dict(BLOCK.findall(text.replace("\\n", "\n")))  # a variable often holds a PEM on one line
    label = next((label for label in blocks if label.endswith("PRIVATE KEY")), "")
    if not label:
        if any(label.endswith("PUBLIC KEY") for label in blocks):
            raise ConfigError(
                f"{name} holds a public key: that one is for the exchange's page, the bot signs with the private key"
            )
        held = f"PEM text of a {next(iter(blocks))}" if blocks else "no complete PEM text"
        raise ConfigError(f"{name} holds {held}, not a private key: {TAKEN}")
    if label == "EC PRIVATE KEY":
        raise ConfigError(f"{name} holds an EC key: {TAKEN}")
    encrypted = label == "ENCRYPTED PRIVATE KEY" or "ENCRYPTED" in blocks[label]
    if encrypted and not passphrase:
        raise ConfigError(f"{name} holds an encrypted private key: set {PASSPHRASE} to its passphrase")
    key = _opened(_rewritten(label, blocks[label]), passphrase if encrypted else None, name)
    if isinstance(key, RSA.RsaKey):
        if key.size_in_bits() < LEAST_RSA_BITS:
            raise ConfigError(
                f"{name} holds an RSA key of {key.size_in_bits()} bits: the exchange takes {LEAST_RSA_BITS} or more"
            )
        pem, kind = key.export_key(format="PEM", pkcs=8).decode(), RSA_KIND
    elif key.curve == "Ed25519":
        pem, kind = str(key.export_key(format="PEM")), ED25519
    else:
        raise ConfigError(f"{name} holds an EC key ({key.curve}): {TAKEN}")
    _hide_pem(pem)
    return pem.strip(), kind


def _rewritten(label: str, body: str) -> str:
    """Return a block with uniform line ends and no spaces; one with headers (an old encrypted key) keeps its lines."""
    if ":" in body:
        lines = [line.strip() for line in body.strip().splitlines()]
    else:
        joined = "".join(body.split())
        lines = [joined[at : at + LINE] for at in range(0, len(joined), LINE)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"))


def _opened(pem: str, passphrase: str | None, name: str) -> Any:
    """Return the key in a PEM, of either kind."""
    for read in (ECC.import_key, RSA.import_key):
        try:
            return read(pem, passphrase=passphrase)
        except Exception:  # parsers raise anything on a foreign file: it is not of this kind
            continue
    if passphrase is not None:
        raise ConfigError(f"the private key in {name} does not open with the passphrase in {PASSPHRASE}")
    raise ConfigError(
        f"{name} holds a private key that cannot be read: it is damaged, or of a kind that is not taken ({TAKEN})"
    )


def _hide_pem(text: str, passphrase: str = "") -> None:
    """Register a PEM both entire and line by line: a message that quotes it may break or join its lines."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines()]
    body = [line for line in lines if line and not line.startswith("-----")]
    hide(text, "".join(body), *body, *([passphrase] if passphrase else []))
