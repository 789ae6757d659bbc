"""Receipts: what an erasure did to each store, signed with Ed25519 (RFC 8032), without the id of who was erased."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.marks import derived_key
from streaming.namespace import Namespace


class ReceiptInvalid(FlywheelError):
    """A receipt was changed after it was signed, or somebody else signed it."""


class StoreEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One store: what was removed, by kind, by when the last trace goes by itself (ISO 8601), and what else holds."""

    store: str
    removed: dict[str, int]
    gone_by: str | None = None
    note: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An erasure: `mark` stands for who was erased, everything up to `cut` is dropped; times are ISO 8601, UTC."""

    format_version: int = 1
    namespace: str
    mark: str
    sessions: int
    cut: str
    completed_at: str
    stores: list[StoreEntry]


class SignedReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt with the signature of its encoded form, and the key that verifies it; both in hex."""

    receipt: Receipt
    public_key: str
    signature: str


def sign(receipt: Receipt, kafka: KafkaSettings) -> SignedReceipt:
    """Sign with the namespace's own key, derived from the erasure key; raises ErasureKeyMissing."""
    key = _signing_key(kafka, Namespace(receipt.namespace))
    return SignedReceipt(
        receipt=receipt,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(msgspec.json.encode(receipt)).hex(),
    )


def public_key(kafka: KafkaSettings, namespace: Namespace) -> str:
    """Return the key, in hex, that verifies a namespace's receipts; raises ErasureKeyMissing."""
    return _signing_key(kafka, namespace).public_key().public_bytes_raw().hex()


def verify(data: bytes, trusted_key: str) -> Receipt:
    """Return the receipt in `data` if `trusted_key` (hex) signed just this; raises ReceiptInvalid."""
    try:
        signed = msgspec.json.decode(data, type=SignedReceipt)
        trusted, signature = bytes.fromhex(trusted_key), bytes.fromhex(signed.signature)
        Ed25519PublicKey.from_public_bytes(trusted).verify(signature, msgspec.json.encode(signed.receipt))
    except (msgspec.DecodeError, ValueError) as error:
        raise ReceiptInvalid(f"this is no receipt: {error}") from error
    except InvalidSignature as error:
        raise ReceiptInvalid(
            f"the signature is not that of key {trusted_key[:16]}…: the receipt was changed, or is of another key or "
            "namespace"
        ) from error
    return signed.receipt


def receipts_folder(home: Path, namespace: Namespace) -> Path:
    """Return where a namespace's receipts are kept."""
    return home / "receipts" / namespace


def iso(milliseconds: int) -> str:
    """Return a time, ms UTC, as receipts have it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def write_receipt(folder: Path, signed: SignedReceipt) -> Path:
    """Keep a receipt as `MARK-CUT.json` and return its path; a later one for the same erasure takes its place."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = "".join(letter for letter in signed.receipt.cut if letter.isdigit())
    path = folder / f"{signed.receipt.mark[:16]}-{cut}.json"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(signed), indent=2))
    draft.replace(path)
    return path


def _signing_key(kafka: KafkaSettings, namespace: Namespace) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derived_key(kafka, f"receipts of {namespace}"))
