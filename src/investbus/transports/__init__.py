"""One module per bus, named as in the configuration; only the one that is configured is imported."""
