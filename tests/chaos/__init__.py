"""Kill workers, keep a ledger, and check the promises against it. `python -m tests.chaos --help`.

The verdict rests on what handlers wrote down before they returned and on what the broker says is committed; the workers' own logs
explain a failure but acquit nobody.
"""
