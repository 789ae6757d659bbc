"""The collector's work: bodies become events, and an event is accepted once Kafka has acknowledged it."""
