"""Importing files as events, through Kafka like everything else."""
