"""Fixtures that every test may use: the real brokers of the lab."""

pytest_plugins = ["tests.brokers.fixtures", "tests.brokers.servicebus.fixtures"]
