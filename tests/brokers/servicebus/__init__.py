"""An emulator of Azure Service Bus for tests: what the azure-servicebus package asks of a namespace, on the loopback interface.

There is no broker that could be installed instead: the official emulator is a container that needs a second one with a database,
and keeps nothing over a restart. The AMQP 1.0 engine is Apache Qpid Proton; queues, locks and sessions are here. What is left out
is refused, never ignored: filters of subscriptions, deferred and scheduled messages, detection of duplicates, transactions.

    codec, message, frames      bytes: what a message is made of, and what the engine does not tell of a frame
    locks, queue, sessions      the rules, without a network: who may have which message, for how long
    settings, namespace         what there is, by name; journal: what outlives a kill
    connection, attach          one client, one link: outgoing, incoming, requests (claims, management)
    server, control, faults     the process, and what a test orders from it
    lab, sources, fixtures      how a test starts and steers it

Tests against it prove what a client does, not what Azure does: nothing here was compared with the service itself.
"""
