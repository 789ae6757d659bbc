"""The `flywheel` command. Each command's work is imported when it runs, so that `--help` stays fast."""

import logging
import sys
import warnings

import typer

from services.commands import lake, model, operate, serve
from streaming.errors import FlywheelError

app = typer.Typer(
    name="flywheel",
    help="A recommender backend that gets better with every click.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (operate, serve, lake, model):
    module.register(app)


def main() -> None:
    """Run the command line: 0 = done, 1 = failed with a sentence, 2 = wrong use or settings, 130 = interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("torchrec").setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # deprecations in libraries concern whoever pins them, and tests show them
    try:
        app()
    except FlywheelError as error:
        sys.stderr.write(f"flywheel: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("flywheel: interrupted; the same command continues from here\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
