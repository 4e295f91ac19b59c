"""Kafka under chaos: an event is settled when a committed offset has passed it. Commits never go back, and end at the end."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_commits import Sample, Sampler
from tests.brokers.kafka_records import Place
from tests.brokers.sources import open_kafka
from tests.chaos.checks import shortened, unwatched
from tests.chaos.history import Sent

GROUP = "chaos"
PARTITIONS = 6


class KafkaBus:
    keyed = True

    def __init__(self, kafka: Kafka, topic: str, session_timeout: float = 6.0) -> None:
        """A killed worker's partitions are free after `session_timeout` seconds."""
        self._kafka, self._topic, self._session_timeout = kafka, topic, session_timeout
        self._places: dict[str, Place] = {}
        self._sampler: Sampler | None = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        with self._kafka.sampler(GROUP, self._topic) as self._sampler:
            yield

    def settings(self) -> dict[str, Any]:
        section = {"bootstrap_servers": [self._kafka.bootstrap], "topic": self._topic, "group": GROUP}
        return {"transport": "kafka", "kafka": section | {"session_timeout": self._session_timeout}}

    def publish(self, events: Sequence[Sent]) -> None:
        places = self._kafka.produce(self._topic, [(event.key, event.body, None) for event in events], "zstd")
        self._places |= {event.event_id: place for event, place in zip(events, places, strict=True)}

    def drained(self) -> bool:
        return self._kafka.committed(GROUP, self._topic) == self._ends()

    def settled(self) -> Mapping[str, float]:
        return settled(self._samples, self._places)

    def returned(self) -> Mapping[str, int]:
        return {}

    def violations(self) -> list[str]:
        looks = [sample.at for sample in self._samples]
        return [*shortened(stepped_back(self._samples)), *not_at_the_end(self._samples, self._ends()), *unwatched(looks)]

    @property
    def _samples(self) -> Sequence[Sample]:
        assert self._sampler is not None
        return self._sampler.samples

    def _ends(self) -> dict[int, int]:
        return {partition: end for partition, end in self._kafka.end_offsets(self._topic).items() if end}


@contextmanager
def opened(folder: Path) -> Iterator[KafkaBus]:
    """A bus on a broker of our own; raises Missing."""
    kafka = open_kafka(folder)
    try:
        kafka.create_topic("chaos", partitions=PARTITIONS)
        yield KafkaBus(kafka, "chaos")
    finally:
        kafka.close()


def settled(samples: Iterable[Sample], places: Mapping[str, Place]) -> dict[str, float]:
    """When the commit of its partition was first seen beyond each event."""
    rows: dict[int, list[tuple[int, str]]] = {}  # what is not yet settled, the first last
    for event_id, (partition, offset) in sorted(places.items(), key=lambda row: row[1], reverse=True):
        rows.setdefault(partition, []).append((offset, event_id))
    found: dict[str, float] = {}
    for sample in samples:
        for partition, committed in sample.offsets.items():
            open_rows = rows.get(partition, [])
            while open_rows and open_rows[-1][0] < committed:
                found[open_rows.pop()[1]] = sample.at
    return found


def stepped_back(samples: Iterable[Sample]) -> Iterable[str]:
    highest: dict[int, int] = {}
    for sample in samples:
        for partition, committed in sample.offsets.items():
            if committed < highest.get(partition, 0):
                yield f"commit: {partition} went back from {highest[partition]} to {committed}"
            highest[partition] = max(committed, highest.get(partition, 0))


def not_at_the_end(samples: Sequence[Sample], ends: Mapping[int, int]) -> Iterable[str]:
    final = samples[-1].offsets if samples else {}
    wrong = {partition: end for partition, end in ends.items() if final.get(partition) != end}
    return (f"commit: partition {partition} ends at {end}, committed is {final.get(partition)}" for partition, end in wrong.items())
