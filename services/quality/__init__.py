"""Reports on models: which candidate source finds what, and the comparison that `flywheel evaluate` prints."""
