"""Commands that erase a user, prove it, and verify the receipt."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from services.commands.common import AsJson, open_lake, say, show

if TYPE_CHECKING:
    from services.erasure.receipt import SignedReceipt

receipts = typer.Typer(name="receipt", help="Receipts of erasures.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("erase")(erase)
    receipts.command("verify")(verify_receipt)
    app.add_typer(receipts)


def erase(
    user: Annotated[str | None, typer.Argument(help="The user's id.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Carry out what was requested and is not done.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Erase once more who was erased and is in the lake, as a restore leaves it.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Search every store for the id; erase nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a user from every store and sign a receipt; or search for one, exit 1 when found."""
    from services.config import ConfigurationError, load_settings
    from streaming.ids import UserId

    if [user is not None, pending, again].count(True) != 1 or (verify and user is None):
        raise ConfigurationError(
            "say whom: `flywheel erase USER`, `erase --verify USER`, `erase --pending` or `erase --again`"
        )
    if user is not None and verify:
        from services.erasure.search import search

        found = [msgspec.to_builtins(one) for one in search(load_settings(), UserId(user))]
        show("Searched", found, as_json)
        if any(one["verdict"] == "FOUND" for one in found):
            sys.exit(1)
        return
    from features.lake import ensure_tables
    from services.erasure.erase import Eraser

    settings, spark = open_lake()
    ensure_tables(spark, settings.topics.namespace)
    eraser = Eraser(settings, spark)
    if user is not None:
        done = [eraser.erase(UserId(user))]
    else:
        done = list(eraser.erase_again() if again else eraser.erase_pending())
    for signed, path in done:
        say([f"receipt {path}"])
        if not as_json:
            show(f"Erased up to {signed.receipt.cut}", _rows(signed), as_json)
    if as_json:
        show("Erased", [msgspec.to_builtins(signed) for signed, _ in done], as_json)


def verify_receipt(
    file: Annotated[Path, typer.Argument(help="A receipt of `flywheel erase`.", exists=True, dir_okay=False)],
    key: Annotated[
        str | None, typer.Option("--public-key", help="Whose signature, hex; the namespace's own if unset.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt's signature; exit 1 when it was changed or somebody else signed it."""
    from services.config import load_settings
    from services.erasure.receipt import SignedReceipt, public_key, verify

    trusted = key
    if trusted is None:
        settings = load_settings()
        trusted = public_key(settings.kafka, settings.topics.namespace)
    receipt = verify(file.read_bytes(), trusted)
    signed = SignedReceipt(receipt=receipt, public_key=trusted, signature="")
    show(f"Valid: {receipt.mark} up to {receipt.cut}", _rows(signed), as_json)


def _rows(signed: "SignedReceipt") -> list[dict[str, str]]:
    return [
        {
            "store": entry.store,
            "removed": ", ".join(f"{count} {kind}" for kind, count in entry.removed.items()) or "-",
            "gone_by": entry.gone_by or "-",
            "note": entry.note,
        }
        for entry in signed.receipt.stores
    ]
