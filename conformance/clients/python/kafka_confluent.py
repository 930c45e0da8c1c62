"""confluent-kafka (librdkafka) with default settings."""

import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from harness import case, equal, note, true, wait_for


def producer(target, **config):
    return Producer({"bootstrap.servers": target.kafka, **config})


def consumer(target, group, **config):
    return Consumer(
        {
            "bootstrap.servers": target.kafka,
            "group.id": group,
            "auto.offset.reset": "earliest",
            **config,
        }
    )


def admin(target):
    return AdminClient({"bootstrap.servers": target.kafka})


def create(target, topic, partitions=1, config=None):
    # The client must live until the answer is there.
    client = admin(target)
    client.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(timeout=15)


def produce_all(p, records, topic):
    """Produces `(key, value, headers)` records and returns their (partition, offset) in order."""
    places = [None] * len(records)
    errors = []

    def delivered(index):
        def report(error, message):
            if error is not None:
                errors.append(error)
            else:
                places[index] = (message.partition(), message.offset())

        return report

    for index, (key, value, headers) in enumerate(records):
        p.produce(topic, value, key, headers=headers, on_delivery=delivered(index))
        p.poll(0)
    left = p.flush(20)
    true(not errors, f"delivery errors {errors[:3]}")
    equal(left, 0, "messages without a delivery report")
    return places


def consume_count(c, count, within=20.0):
    got = []
    deadline = time.monotonic() + within
    while len(got) < count and time.monotonic() < deadline:
        message = c.poll(0.2)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                continue
            if message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise KafkaException(message.error())
        got.append(message)
    equal(len(got), count, "messages consumed")
    return got


@case("confluent/produce_consume")
def produce_consume(target):
    topic = target.name("t")
    records = [(f"k{i}".encode(), f"value {i}".encode(), None) for i in range(200)]
    places = produce_all(producer(target), records, topic)
    equal(sorted(offset for _, offset in places), list(range(200)), "offsets")
    c = consumer(target, target.name("g"))
    c.subscribe([topic])
    got = consume_count(c, 200)
    equal([(m.key(), m.value()) for m in got], [(k, v) for k, v, _ in records], "records in order")
    true(all(m.timestamp()[1] > 1_500_000_000_000 for m in got), "timestamps are those of the producer")
    c.close()


@case("confluent/idempotent")
def idempotent(target):
    topic = target.name("t")
    create(target, topic, 3)
    p = producer(target, **{"enable.idempotence": True, "linger.ms": 1})
    records = [(f"{i % 7}".encode(), str(i).encode(), None) for i in range(2000)]
    places = produce_all(p, records, topic)
    equal(len(set(places)), 2000, "distinct places")
    c = consumer(target, target.name("g"))
    c.subscribe([topic])
    got = consume_count(c, 2000)
    equal(sorted(int(m.value()) for m in got), list(range(2000)), "values")
    for partition in range(3):
        offsets = [m.offset() for m in got if m.partition() == partition]
        equal(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    c.close()


@case("confluent/rebalance_two_members")
def rebalance(target):
    topic, group = target.name("t"), target.name("g")
    create(target, topic, 4)
    produce_all(producer(target), [(str(i).encode(), str(i).encode(), None) for i in range(100)], topic)
    fast = {"session.timeout.ms": 10000, "heartbeat.interval.ms": 500}
    a, b = consumer(target, group, **fast), consumer(target, group, **fast)
    got = set()

    def step():
        for c in (a, b):
            m = c.poll(0.05)
            if m is not None and not m.error():
                got.add(int(m.value()))

    a.subscribe([topic])
    wait_for(lambda: len(a.assignment()) == 4, "the first member holds all partitions", 30, step)
    b.subscribe([topic])
    wait_for(
        lambda: len(a.assignment()) == 2 and len(b.assignment()) == 2,
        "two members hold two partitions each",
        30,
        step,
    )
    both = {p.partition for p in a.assignment()} | {p.partition for p in b.assignment()}
    equal(both, {0, 1, 2, 3}, "partitions held together")
    wait_for(lambda: len(got) == 100, "every record reaches a member", 20, step)
    b.close()

    def alone():
        m = a.poll(0.05)
        if m is not None and not m.error():
            got.add(int(m.value()))

    wait_for(lambda: len(a.assignment()) == 4, "the one left takes over", 30, alone)
    a.close()


@case("confluent/offsets_resume")
def offsets_resume(target):
    topic, group = target.name("t"), target.name("g")
    produce_all(producer(target), [(None, str(i).encode(), None) for i in range(100)], topic)
    c = consumer(target, group, **{"enable.auto.commit": False})
    c.subscribe([topic])
    got = consume_count(c, 40)
    # librdkafka hands out records one by one: the position is behind the last one given.
    c.commit(offsets=[TopicPartition(topic, 0, got[-1].offset() + 1, metadata="half")], asynchronous=False)
    c.close()
    c = consumer(target, group)
    committed = c.committed([TopicPartition(topic, 0)], timeout=10)[0]
    equal(committed.offset, 40, "committed offset")
    c.subscribe([topic])
    rest = consume_count(c, 60)
    equal([int(m.value()) for m in rest], list(range(40, 100)), "records after the committed offset")
    c.close()


@case("confluent/committed_survive_restart")
def committed_survive_restart(target):
    topic, group = target.name("t"), target.name("g")
    if target.phase == 1:
        p = producer(target, **{"enable.idempotence": True})
        produce_all(p, [(b"k", str(i).encode(), None) for i in range(50)], topic)
        c = consumer(target, group, **{"enable.auto.commit": False})
        c.subscribe([topic])
        got = consume_count(c, 20)
        c.commit(message=got[-1], asynchronous=False)
        # A member that left without a word would hold its partitions for the session's 45 s.
        c.close()
        return
    c = consumer(target, group)
    equal(c.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 20, "committed offset")
    c.subscribe([topic])
    rest = consume_count(c, 30, 45)
    equal([int(m.value()) for m in rest], list(range(20, 50)), "records after the restart")
    places = produce_all(producer(target), [(b"k", b"new", None)], topic)
    equal(places, [(0, 50)], "offset of a record after the restart")
    c.close()


@case("confluent/long_poll")
def long_poll(target):
    topic = target.name("t")
    p = producer(target, **{"linger.ms": 0})
    produce_all(p, [(None, b"first", None)], topic)
    c = consumer(target, target.name("g"), **{"fetch.wait.max.ms": 5000})
    c.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    consume_count(c, 1)
    c.poll(0.5)
    delays = []
    for i in range(5):
        start = time.monotonic()
        produce_all(p, [(None, b"x%d" % i, None)], topic)
        consume_count(c, 1)
        delays.append(time.monotonic() - start)
    note(f"delays {delays}")
    true(sorted(delays)[2] < 1.0, f"a record wakes a waiting fetch, took {delays}")
    c.close()


@case("confluent/list_offsets_by_time")
def list_offsets_by_time(target):
    topic = target.name("t")
    p = producer(target)
    base = int(time.time() * 1000) - 100_000
    for i in range(10):
        p.produce(topic, str(i).encode(), timestamp=base + i * 1000)
        p.flush(10)
    c = consumer(target, target.name("g"))

    def at(timestamp):
        return c.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=10)[0].offset

    equal(at(base), 0, "the first record's own time")
    equal(at(base - 5000), 0, "before all")
    equal(at(base + 4000), 4, "the time of the fifth")
    equal(at(base + 4001), 5, "just after the fifth")
    equal(at(base + 50_000), -1, "after all")
    equal(c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 10), "watermarks")
    c.close()


@case("confluent/create_delete_topics")
def create_delete_topics(target):
    topic = target.name("t")
    create(target, topic, 5, {"retention.ms": "3600000"})
    a = admin(target)
    meta = a.list_topics(topic, timeout=10).topics[topic]
    equal(len(meta.partitions), 5, "partitions")
    try:
        create(target, topic)
        raise AssertionError("a topic was created twice")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "error of a second creation")
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    config = a.describe_configs([resource])[resource].result(timeout=10)
    equal(config["retention.ms"].value, "3600000", "retention.ms")
    true("cleanup.policy" in config, "defaults are described too")
    produce_all(producer(target), [(None, b"x", None)], topic)
    a.delete_topics([topic])[topic].result(timeout=10)
    wait_for(lambda: topic not in a.list_topics(timeout=10).topics, "the topic is gone")
    try:
        a.delete_topics([topic])[topic].result(timeout=10)
        raise AssertionError("a topic was deleted twice")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "error of a second deletion")


@case("confluent/compression")
def compression(target):
    topic = target.name("t")
    expected = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        p = producer(target, **{"compression.type": codec, "linger.ms": 50})
        records = [(None, f"{codec} {i} ".encode() * 50, None) for i in range(50)]
        produce_all(p, records, topic)
        expected += [value for _, value, _ in records]
    c = consumer(target, target.name("g"))
    c.subscribe([topic])
    equal([m.value() for m in consume_count(c, 250)], expected, "values")
    c.close()


@case("confluent/headers")
def headers(target):
    topic = target.name("t")
    pairs = [("a", b"1"), ("a", b"2"), ("null", None), ("empty", b""), ("bin", bytes(range(256)))]
    produce_all(
        producer(target),
        [(b"k", b"v", pairs), (None, b"no key", None), (b"", b"", None), (b"gone", None, None)],
        topic,
    )
    c = consumer(target, target.name("g"))
    c.subscribe([topic])
    got = consume_count(c, 4)
    equal(got[0].headers(), pairs, "headers")
    equal([m.key() for m in got], [b"k", None, b"", b"gone"], "keys")
    equal([m.value() for m in got], [b"v", b"no key", b"", None], "values")
    c.close()


@case("confluent/acks")
def acks(target):
    topic = target.name("t")
    for level in ("0", "1", "all"):
        p = producer(target, acks=level)
        produce_all(p, [(None, level.encode(), None) for _ in range(20)], topic)
    c = consumer(target, target.name("g"))
    c.subscribe([topic])
    equal(len(consume_count(c, 60)), 60, "records")
    c.close()


@case("confluent/large_messages")
def large_messages(target):
    topic = target.name("t")
    p = producer(target)
    big = bytes(range(256)) * 3600
    produce_all(p, [(None, big, None)] * 5, topic)
    c = consumer(target, target.name("g"), **{"fetch.message.max.bytes": 10_000})
    c.subscribe([topic])
    got = consume_count(c, 5)
    true(all(m.value() == big for m in got), "values byte for byte")
    c.close()
    errors = []
    p = producer(target, **{"message.max.bytes": 5_000_000})
    p.produce(topic, b"x" * 4_000_000, on_delivery=lambda error, _: errors.append(error))
    p.flush(15)
    true(errors and errors[0] is not None, "a record over max.message.bytes is refused")
    equal(errors[0].code(), KafkaError.MSG_SIZE_TOO_LARGE, "its error")
