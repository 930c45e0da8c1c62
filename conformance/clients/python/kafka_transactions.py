"""Transactions with confluent-kafka (librdkafka)."""

import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from harness import case, equal, true, wait_for
from kafka_confluent import admin, consume_count, consumer, create, produce_all, producer


def transactional(target, name, **config):
    p = producer(target, **{"transactional.id": target.name(name), **config})
    p.init_transactions(15)
    return p


def write(p, topic, values, partition=0):
    for value in values:
        p.produce(topic, value, partition=partition)
    equal(p.flush(15), 0, "messages without a delivery report")


def read_to_end(target, topic, isolation, partition=0):
    """Values and offsets that a reader sees up to the end as it is told, and that end."""
    c = consumer(
        target,
        target.name(f"reader-{isolation}"),
        **{"isolation.level": isolation, "enable.partition.eof": True, "enable.auto.commit": False},
    )
    c.assign([TopicPartition(topic, partition, 0)])
    seen = []
    deadline = time.monotonic() + 20
    end = None
    while end is None:
        true(time.monotonic() < deadline, f"no end of {topic} within 20 s")
        message = c.poll(0.2)
        if message is None:
            continue
        if message.error():
            equal(message.error().code(), KafkaError._PARTITION_EOF, "the error")
            end = message.offset()
        else:
            seen.append((message.offset(), message.value()))
    low, high = c.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    c.close()
    return seen, end, high


@case("confluent/transaction_commit_and_abort")
def transaction_commit_and_abort(target):
    topic = target.name("t")
    create(target, topic, 2)
    p = transactional(target, "writer")
    p.begin_transaction()
    write(p, topic, [b"a0", b"a1"])
    write(p, topic, [b"other"], partition=1)
    p.commit_transaction(15)
    p.begin_transaction()
    write(p, topic, [b"x0", b"x1", b"x2"])
    p.abort_transaction(15)
    p.begin_transaction()
    write(p, topic, [b"b0"])
    p.commit_transaction(15)
    # Markers take offsets: 2, 6 and 8.
    committed, end, high = read_to_end(target, topic, "read_committed")
    equal(committed, [(0, b"a0"), (1, b"a1"), (7, b"b0")], "what is committed")
    equal((end, high), (9, 9), "the end of what is committed")
    everything, end, _ = read_to_end(target, topic, "read_uncommitted")
    values = [b"a0", b"a1", b"x0", b"x1", b"x2", b"b0"]
    equal([value for _, value in everything], values, "what was written")
    equal([offset for offset, _ in everything], [0, 1, 3, 4, 5, 7], "where it lies")
    other, _, high = read_to_end(target, topic, "read_committed", partition=1)
    equal((other, high), ([(0, b"other")], 2), "the other partition")


@case("confluent/transaction_open_hides_what_follows")
def transaction_open_hides_what_follows(target):
    topic = target.name("t")
    create(target, topic)
    p = transactional(target, "writer")
    p.begin_transaction()
    write(p, topic, [b"open"])
    plain = producer(target)
    produce_all(plain, [(None, b"plain", None)], topic)
    seen, end, high = read_to_end(target, topic, "read_committed")
    equal((seen, end), ([], 0), "before the transaction is over")
    equal(high, 0, "the end that a reader of committed records is told")
    seen, _, high = read_to_end(target, topic, "read_uncommitted")
    equal([value for _, value in seen], [b"open", b"plain"], "what others read")
    equal(high, 2, "the end that others are told")
    # A reader that waits gets it when the transaction is committed.
    c = consumer(target, target.name("waits"), **{"isolation.level": "read_committed", "fetch.wait.max.ms": 5000})
    c.assign([TopicPartition(topic, 0, 0)])
    true(c.poll(1.0) is None, "nothing before the commit")
    p.commit_transaction(15)
    began = time.monotonic()
    got = consume_count(c, 2)
    true(time.monotonic() - began < 4, "the commit wakes who waits")
    equal([message.value() for message in got], [b"open", b"plain"], "after the commit")
    c.close()


@case("confluent/transaction_fences_the_one_before")
def transaction_fences_the_one_before(target):
    topic = target.name("t")
    create(target, topic)
    zombie = transactional(target, "writer")
    zombie.begin_transaction()
    write(zombie, topic, [b"zombie"])
    successor = transactional(target, "writer")
    try:
        zombie.commit_transaction(15)
        raise AssertionError("the zombie has committed")
    except KafkaException as error:
        true(error.args[0].fatal(), f"a fatal error: {error}")
        true(
            error.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH),
            f"fenced: {error}",
        )
    successor.begin_transaction()
    write(successor, topic, [b"successor"])
    successor.commit_transaction(15)
    seen, _, _ = read_to_end(target, topic, "read_committed")
    equal([value for _, value in seen], [b"successor"], "what is committed")


@case("confluent/transaction_consume_produce")
def transaction_consume_produce(target):
    source, sink, group = target.name("source"), target.name("sink"), target.name("copier")
    create(target, source)
    create(target, sink)
    produce_all(producer(target), [(None, b"%d" % i, None) for i in range(30)], source)
    p = transactional(target, "copier")
    c = consumer(target, group, **{"enable.auto.commit": False, "isolation.level": "read_committed"})
    c.subscribe([source])
    for turn in range(3):
        batch = consume_count(c, 10)
        p.begin_transaction()
        for message in batch:
            p.produce(sink, message.value())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 15)
        if turn == 1:
            p.abort_transaction(15)
            kept = c.committed([TopicPartition(source, 0)], timeout=15)[0].offset
            equal(kept, 10, "the position after the abort")
            c.seek(TopicPartition(source, 0, kept))
            # It is done again.
            batch = consume_count(c, 10)
            p.begin_transaction()
            for message in batch:
                p.produce(sink, message.value())
            p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 15)
        p.commit_transaction(15)
    kept = c.committed([TopicPartition(source, 0)], timeout=15)[0].offset
    equal(kept, 30, "the position at the end")
    c.close()
    seen, _, _ = read_to_end(target, sink, "read_committed")
    equal([value for _, value in seen], [b"%d" % i for i in range(30)], "each once, in order")


@case("confluent/transaction_times_out")
def transaction_times_out(target):
    topic = target.name("t")
    create(target, topic)
    p = transactional(target, "writer", **{"transaction.timeout.ms": 1500, "message.timeout.ms": 1400})
    p.begin_transaction()
    write(p, topic, [b"too slow"])
    produce_all(producer(target), [(None, b"plain", None)], topic)
    c = consumer(target, target.name("g"), **{"isolation.level": "read_committed"})
    c.assign([TopicPartition(topic, 0, 0)])
    # Apache Kafka looks every ten seconds.
    got = consume_count(c, 1, within=25)
    equal(got[0].value(), b"plain", "what comes when the transaction is aborted")
    try:
        p.commit_transaction(15)
        raise AssertionError("it has committed")
    except KafkaException as error:
        true(error.args[0].fatal() or error.args[0].txn_requires_abort(), f"what it hears: {error}")
    c.close()


@case("confluent/transaction_timeout_too_long")
def transaction_timeout_too_long(target):
    p = producer(target, **{"transactional.id": target.name("writer"), "transaction.timeout.ms": 900_001})
    try:
        p.init_transactions(15)
        raise AssertionError("a timeout beyond the maximum was taken")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_TRANSACTION_TIMEOUT, "the error")


@case("confluent/transaction_survives_restart")
def transaction_survives_restart(target):
    topic = target.name("t")
    if target.phase == 1:
        create(target, topic)
        p = transactional(target, "writer")
        p.begin_transaction()
        write(p, topic, [b"committed"])
        p.commit_transaction(15)
        p.begin_transaction()
        write(p, topic, [b"aborted"])
        p.abort_transaction(15)
        p.begin_transaction()
        write(p, topic, [b"open"])
        return
    seen, end, _ = read_to_end(target, topic, "read_committed")
    equal(([value for _, value in seen], end), ([b"committed"], 4), "before the open one is over")
    # A successor ends what its predecessor left open.
    p = transactional(target, "writer")
    p.begin_transaction()
    write(p, topic, [b"next"])
    p.commit_transaction(15)
    seen, _, _ = read_to_end(target, topic, "read_committed")
    equal([value for _, value in seen], [b"committed", b"next"], "in the end")
