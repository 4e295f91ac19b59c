"""Kill workers, keep a ledger, and check the promises against it, on any bus. `python -m tests.chaos --help`.

The verdict rests on what handlers wrote down before they returned, on what the bus gave up when, and on the dead letters that are
stored; the workers' own logs explain a failure but acquit nobody.

    chaos, workers, handlers    the run: who publishes, who works, who is killed when
    ledger, history             what happened
    checks                      the promises, the same on every bus
    bus                         what differs: kafka, rabbitmq (with amqp_tap, amqp_wire), servicebus
    small                       the plan of a run that the suite has time for
"""
