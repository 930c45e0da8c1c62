"""Raw views of compacted topics (`omnilog.raw.retention.ms`), with confluent-kafka (librdkafka)."""

import time

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from harness import case, equal, true, wait_for
from kafka_confluent import admin, consume_count, consumer, create, produce_all, producer
from kafka_transactions import read_to_end, transactional

KEYS = 10
RECORDS = 2000


def alter(target, topic, name, value):
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(name, value, incremental_operation=operation)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    # The client must live until the answer is there.
    client = admin(target)
    client.incremental_alter_configs([resource])[resource].result(timeout=10)


def refused(what, expected):
    """The error that something ends in."""
    try:
        what()
    except KafkaException as error:
        equal(error.args[0].name(), expected, "the error")
        return
    raise AssertionError(f"{expected} was to be expected")


def topics(target):
    client = admin(target)
    listed = client.list_topics(timeout=10).topics
    return {name: topic for name, topic in listed.items() if topic.error is None}


def push_on(target, topic):
    """Other records push what was written before out of memory and out of the newest file."""
    records = [(None, b"y" * 1000, None)] * 6000
    produce_all(producer(target, **{"batch.size": 10000}), records, topic)
    time.sleep(0.5)


def until_compacted(target, topic, most, check):
    left = None
    for _ in range(40):
        push_on(target, target.name("other"))
        check()
        left = len(read_to_end(target, topic, "read_uncommitted")[0])
        if left <= most:
            return
    raise AssertionError(f"{left} of {RECORDS} records are left")


def written():
    return [(f"k{n % KEYS}".encode(), f"{n} ".encode() + b"x" * 300, None) for n in range(RECORDS)]


@case("raw/every_record_as_written")
def every_record_as_written(target):
    table, raw, group = target.name("table"), target.name("table.raw"), target.name("group")
    expected = [(n, record[1]) for n, record in enumerate(written())]
    # Behind them a committed record and its marker, an aborted one and its marker.
    expected.append((RECORDS, b"committed"))
    if target.phase == 1:
        policy = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
        create(target, table, 1, {**policy, "omnilog.raw.retention.ms": "-1"})
        create(target, target.name("other"), 1, {"retention.bytes": "1000000"})
        view = topics(target)[raw]
        equal(len(view.partitions), 1, "partitions")
        resource = ConfigResource(ConfigResource.Type.TOPIC, raw)
        client = admin(target)
        config = client.describe_configs([resource])[resource].result(timeout=10)
        equal(config["retention.ms"].value, "-1", "retention.ms")
        equal(config["cleanup.policy"].value, "delete", "cleanup.policy")
        true(config["retention.ms"].is_read_only, "its settings are read-only")
        p = producer(target, **{"enable.idempotence": True, "batch.size": 10000})
        places = produce_all(p, written(), table)
        equal([offset for _, offset in places], list(range(RECORDS)), "offsets")
        t = transactional(target, "writer")
        for value, commit in ((b"committed", True), (b"aborted", False)):
            t.begin_transaction()
            t.produce(table, value, "k0")
            t.flush(10)
            t.commit_transaction(15) if commit else t.abort_transaction(15)
        # A group reads half of it, and goes on behind the gateway's end.
        c = consumer(target, group, **{"enable.auto.commit": False})
        c.subscribe([raw])
        got = consume_count(c, RECORDS // 2)
        c.commit(message=got[-1], asynchronous=False)
        c.close()

        def check():
            seen = read_to_end(target, raw, "read_committed")[0]
            equal(seen, expected, "what is read while it is compacted")

        until_compacted(target, table, RECORDS // 4, check)
    seen, end, high = read_to_end(target, raw, "read_committed")
    equal(seen, expected, "what is read as committed")
    equal((end, high), (RECORDS + 4, RECORDS + 4), "the end")
    seen = read_to_end(target, raw, "read_uncommitted")[0]
    equal(seen, [*expected, (RECORDS + 2, b"aborted")], "all that was written")
    c = consumer(target, target.name("times"))
    c.assign([TopicPartition(raw, 0, OFFSET_BEGINNING)])
    hundredth = consume_count(c, 101)[-1]
    found = c.offsets_for_times([TopicPartition(raw, 0, hundredth.timestamp()[1])], timeout=10)
    true(0 <= found[0].offset <= 100, f"the offset by time is {found[0].offset}")
    c.close()
    if target.phase == 1:
        return
    c = consumer(target, group)
    c.subscribe([raw])
    got = consume_count(c, RECORDS // 2 + 1)
    equal([m.offset() for m in got], list(range(RECORDS // 2, RECORDS + 1)), "after the position")
    c.close()
    # What is written now is read behind what was copied.
    produce_all(producer(target), [(b"k1", b"new", None)], table)
    seen, _, _ = read_to_end(target, raw, "read_committed")
    equal(seen[-1], (RECORDS + 4, b"new"), "the newest")
    # It goes with the setting.
    alter(target, table, "omnilog.raw.retention.ms", None)
    wait_for(lambda: raw not in topics(target), "the raw view goes")
    true(table in topics(target), "its topic stays")


@case("raw/read_only")
def read_only(target):
    table, raw = target.name("table"), target.name("table.raw")
    compacted = {"cleanup.policy": "compact"}
    create(target, table, 2, {**compacted, "omnilog.raw.retention.ms": "60000"})
    equal(len(topics(target)[raw].partitions), 2, "partitions")
    p = producer(target)
    errors = []
    p.produce(raw, b"v", b"k", on_delivery=lambda error, _: errors.append(error))
    p.flush(10)
    equal([error.code() for error in errors], [KafkaError.TOPIC_EXCEPTION], "producing")
    client = admin(target)
    refused(lambda: create(target, raw), "TOPIC_ALREADY_EXISTS")
    refused(lambda: client.delete_topics([raw])[raw].result(10), "POLICY_VIOLATION")
    more = NewPartitions(raw, 3)
    refused(lambda: client.create_partitions([more])[raw].result(10), "POLICY_VIOLATION")
    refused(lambda: alter(target, raw, "retention.ms", "1"), "POLICY_VIOLATION")
    place = TopicPartition(raw, 0, 0)
    refused(lambda: client.delete_records([place])[place].result(10), "POLICY_VIOLATION")
    # Only compacted topics have one, and under a name that nothing else has.
    name, value = "omnilog.raw.retention.ms", "-1"
    plain = target.name("plain")
    create(target, plain)
    refused(lambda: alter(target, plain, name, value), "INVALID_CONFIG")
    create(target, f"{plain}.raw")
    new = NewTopic(target.name("small"), 1, 1, config={**compacted, name: "-2"})
    refused(lambda: client.create_topics([new])[new.topic].result(10), "INVALID_CONFIG")
    client.delete_topics([plain])[plain].result(10)
    new = NewTopic(plain, 1, 1, config={**compacted, name: value})
    refused(lambda: client.create_topics([new])[new.topic].result(10), "INVALID_CONFIG")
    # Partitions of the topic are partitions of its view, and it goes with the topic.
    client.create_partitions([NewPartitions(table, 3)])[table].result(10)
    wait_for(lambda: len(topics(target)[raw].partitions) == 3, "a third partition")
    client.delete_topics([table])[table].result(10)
    wait_for(lambda: raw not in topics(target), "the raw view goes")
