"""The demonstration: the whole circle on one machine, from raw events to a measured report."""
