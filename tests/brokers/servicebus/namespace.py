"""All entities by name, as senders and receivers address them, and what the journal says was in them."""

import msgspec

from tests.brokers.servicebus.journal import Created, Failed, Gone, StateSet, Stored
from tests.brokers.servicebus.message import Content, Message
from tests.brokers.servicebus.queue import DEAD_LETTERS, Queue, Surroundings
from tests.brokers.servicebus.settings import Entities, Properties


class Topic:
    """Every subscription gets every message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscriptions: list[Queue] = []

    def put(self, content: Content) -> None:
        for subscription in self.subscriptions:
            subscription.put(content)


class Namespace:
    """Names are compared without case, as the service does."""

    def __init__(self, entities: Entities, around: Surroundings) -> None:
        self._around = around
        self._queues: dict[str, Queue] = {}  # subscriptions and dead letters too
        self._topics: dict[str, Topic] = {}
        self._create(entities)
        self._replay()

    def create(self, entities: Entities) -> None:
        """ValueError if one is there already. They are there again after a restart."""
        self._create(entities)
        self._around.journal.append(Created(entities))

    def queue(self, name: str) -> Queue | None:
        """What can be received from: a queue, a subscription, or the dead letters of one."""
        return self._queues.get(name.lower())

    def target(self, name: str) -> Queue | Topic | None:
        """What can be sent to."""
        found = self._topics.get(name.lower()) or self._queues.get(name.lower())
        return None if isinstance(found, Queue) and found.dead is None else found

    def queues(self) -> list[Queue]:
        return list(self._queues.values())

    def tick(self) -> None:
        for queue in self._queues.values():
            if queue.messages or queue.sessions is not None:
                queue.tick()

    def _create(self, entities: Entities) -> None:
        """All or none."""
        taken = {*self._queues, *self._topics}
        for name in _names(entities):
            if name.lower() in taken:
                raise ValueError(f"there is an entity {name} already")
            taken.add(name.lower())
        for queue in entities.queues:
            self._add(queue.name, queue.properties)
        for topic in entities.topics:
            made = self._topics[topic.name.lower()] = Topic(topic.name)
            for each in topic.subscriptions:
                made.subscriptions.append(self._add(_subscription(topic.name, each.name), each.properties))

    def _add(self, name: str, properties: Properties) -> Queue:
        simple = msgspec.structs.replace(
            properties, requires_session=False, default_message_time_to_live=None, dead_lettering_on_message_expiration=False
        )
        dead = Queue(name + DEAD_LETTERS, simple, self._around, dead=None)
        queue = Queue(name, properties, self._around, dead=dead)
        self._queues |= {name.lower(): queue, dead.name.lower(): dead}
        return queue

    def _replay(self) -> None:
        """Messages are restored when all of the journal is known: most of them have gone again by its end."""
        messages: dict[tuple[str, int], Stored] = {}
        counts: dict[tuple[str, int], int] = {}
        last: dict[str, int] = {}
        for record in self._around.journal.read():
            match record:
                case Created(entities):
                    self._create(entities)
                case Stored(name, sequence):
                    messages[name, sequence] = record
                    last[name] = sequence
                case Failed(name, sequence, count):
                    counts[name, sequence] = count
                case Gone(name, sequence):
                    messages.pop((name, sequence), None)
                case StateSet(name, session, state):
                    self._restore_state(name, session, state)
        for name, sequence in last.items():
            if (queue := self.queue(name)) is not None:
                queue.last = sequence
        for place, stored in messages.items():
            if (queue := self.queue(stored.queue)) is not None:
                queue.restore(Message(Content(stored.wire), stored.sequence, stored.enqueued, counts.get(place, 0)))

    def _restore_state(self, name: str, session: str, state: bytes | None) -> None:
        queue = self.queue(name)
        if queue is not None and queue.sessions is not None:
            queue.sessions.named(session).state = state


def _subscription(topic: str, name: str) -> str:
    return f"{topic}/Subscriptions/{name}"


def _names(entities: Entities) -> list[str]:
    names = [queue.name for queue in entities.queues]
    for topic in entities.topics:
        names += [topic.name, *(_subscription(topic.name, each.name) for each in topic.subscriptions)]
    return names
