"""The platform's REST API as handlers use it: login, calls, errors, and what a failure means for the event."""
