"""The `flywheel` command. Each command's work is imported when it runs, so that `--help` stays fast."""

import logging
import sys
import warnings

import typer

from services.commands import backup, dlq, erasure, files, lake, model, operate, rebuild, serve, tuning
from services.commands.common import INTERRUPTED
from streaming.errors import FlywheelError

app = typer.Typer(
    name="flywheel",
    help="A recommender backend that gets better with every click.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# They warn of what they mend by themselves: a busy machine, a partition whose leader was elected just now.
_TALKATIVE = ("torchrec", "kafka.net.selector", "kafka.producer.sender")

for module in (operate, serve, files, lake, rebuild, backup, dlq, erasure, model, tuning):
    module.register(app)


def main() -> None:
    """Run the command line: 0 = done, 1 = failed with a sentence, 2 = wrong use or settings, 130 = interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.root.handlers:
        handler.addFilter(_is_no_interrupt)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # deprecations in libraries concern whoever pins them, and tests show them
    try:
        app()
    except FlywheelError as error:
        sys.stderr.write(f"flywheel: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as ending:
        if ending.code == INTERRUPTED:  # typer has caught the interrupt
            sys.stderr.write("flywheel: interrupted; the same command continues from here\n")
        raise


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    """Return False for py4j's record of an interrupt, which is answered with one sentence at the end."""
    return record.exc_info is None or record.exc_info[0] is not KeyboardInterrupt


if __name__ == "__main__":
    main()
