"""An emulator of Azure Service Bus for tests: what the azure-servicebus package asks of a namespace, on the loopback interface.

There is no broker that could be installed instead: the official emulator is a container that needs a second one with a database,
and keeps nothing over a restart. The AMQP 1.0 engine is Apache Qpid Proton; queues, locks and sessions are here. What is left out
is refused, never ignored: filters of subscriptions, deferred and scheduled messages, detection of duplicates, transactions.

    codec, message, frames       bytes: what a message is made of, and what the engine does not tell of a frame
    queue, locks, sessions       the rules, without a network: who may have which message, and for how long
    settings, namespace          what there is, by name; journal: what outlives a kill
    connection, attach, claims   a client, a link of it, and what it may do
    outgoing, incoming           links that carry messages; requests, management: those for everything else
    server, control, faults      the process, and what a test orders from it, in the words of orders
    lab, sources, fixtures       how a test gets it and steers it, whichever it is: emulator or elsewhere
    clients                      the SDK in the emulator's own tests

Tests against it prove what a client does, not what Azure does: nothing here was compared with the service itself.
"""
