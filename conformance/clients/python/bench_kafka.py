"""Kafka load through librdkafka: `bench/kafka_full` and `bench/kafka_paced`."""

import json
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from harness import case, equal
from kafka_confluent import create

PAYLOAD = bytes(i % 251 for i in range(1024))


def consumer(target, topic):
    c = Consumer({"bootstrap.servers": target.kafka, "group.id": topic, "enable.auto.commit": False,
                  "fetch.wait.max.ms": 500})
    c.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    return c


@case("bench/kafka_full")
def full(target):
    topic = target.name("t")
    create(target, topic)
    p = Producer({"bootstrap.servers": target.kafka, "acks": "all", "linger.ms": 5,
                  "queue.buffering.max.messages": 200000})
    c = consumer(target, topic)
    failed = []

    def report(error, _message):
        if error is not None:
            failed.append(error)

    received = 0

    def drain():
        nonlocal received
        deadline = time.monotonic() + 120
        while received < target.count and time.monotonic() < deadline:
            received += len([m for m in c.consume(1000, 0.2) if not m.error()])

    reader = threading.Thread(target=drain)
    start = time.monotonic()
    reader.start()
    for _ in range(target.count):
        while True:
            try:
                p.produce(topic, PAYLOAD, on_delivery=report)
                break
            except BufferError:
                p.poll(0.01)
        p.poll(0)
    p.flush(60)
    produced = time.monotonic() - start
    reader.join()
    took = time.monotonic() - start
    equal(len(failed), 0, "failed deliveries")
    equal(received, target.count, "received")
    print(json.dumps({"result": {"messages": received, "produce_s": produced, "seconds": took}}))


@case("bench/kafka_paced")
def paced(target):
    topic = target.name("t")
    create(target, topic)
    p = Producer({"bootstrap.servers": target.kafka, "acks": "all", "linger.ms": 0})
    c = consumer(target, topic)
    latencies, acks = [], []
    done = threading.Event()

    def drain():
        while not done.is_set() or len(latencies) < target.count:
            m = c.poll(0.2)
            if m is None:
                if done.is_set() and time.monotonic() - done_at[0] > 10:
                    return
                continue
            if not m.error():
                latencies.append(time.monotonic_ns() - int.from_bytes(m.value()[:8], "big"))

    done_at = [0.0]
    reader = threading.Thread(target=drain)
    reader.start()
    time.sleep(1)
    start = time.monotonic_ns()
    for i in range(target.count):
        due = start + i * 1_000_000_000 // target.rate
        while (now := time.monotonic_ns()) < due:
            p.poll(min((due - now) / 1e9, 0.001))
        def report(error, _message, due=due):
            if error is None:
                acks.append(time.monotonic_ns() - due)
        p.produce(topic, due.to_bytes(8, "big") + PAYLOAD[8:], on_delivery=report)
        p.poll(0)
    p.flush(20)
    done_at[0] = time.monotonic()
    done.set()
    reader.join(15)
    equal(len(latencies), target.count, "received")

    def at(values, share):
        values = sorted(values)
        return values[min(len(values) - 1, int(len(values) * share))] / 1000

    print(json.dumps({"result": {
        "messages": target.count, "seconds": target.count / target.rate,
        "p50_us": at(latencies, 0.5), "p99_us": at(latencies, 0.99), "max_us": at(latencies, 1),
        "ack_p50_us": at(acks, 0.5), "ack_p99_us": at(acks, 0.99)}}))
