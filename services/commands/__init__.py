"""The commands of `flywheel`, a file for each kind of work."""
