"""The environment of child processes."""

import os


def without_settings() -> dict[str, str]:
    """Return this process's variables but for Flywheel's, so that its own settings decide no test or figure."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
