"""What one protocol writes, the others read: every cell with real clients."""

import time

import pika
from confluent_kafka import KafkaError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from amqp_pika import channel_of
from harness import case, equal, note, true
from kafka_confluent import consumer, create, produce_all, producer
from mqtt_paho import V5, Peer

BINARY = bytes(range(256)) * 5
HEADERS = [("trace", "abc"), ("who", "é")]


class Kafka:
    """Reads and writes topic `name`."""

    def __init__(self, target, name):
        self.topic = name
        self.producer = producer(target)
        self.target = target
        self.reader = None

    def write(self, key, body, headers=None):
        produce_all(self.producer, [(key, body, headers)], self.topic)

    def read(self, count, within=15.0, exact=True):
        """All records of the topic, from the start: (key, value, headers)."""
        c = consumer(self.target, self.topic + "-reader", **{"topic.metadata.refresh.interval.ms": 500})
        c.subscribe([self.topic])
        got, deadline, last = [], time.monotonic() + within, None
        while time.monotonic() < deadline:
            if len(got) >= count and (not exact or time.monotonic() - last > 0.7):
                break
            m = c.poll(0.1)
            if m is None:
                continue
            if m.error():
                if m.error().code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._PARTITION_EOF):
                    continue
                raise AssertionError(str(m.error()))
            got.append((m.key(), m.value(), m.headers() or []))
            last = time.monotonic()
        c.close()
        seen = [(k, v and v[:20]) for k, v, _ in got]
        equal(len(got), count, f"records read from the Kafka topic: {seen}")
        return got


class Amqp:
    """A queue of its own, and a channel to publish with."""

    def __init__(self, target, queue=""):
        self.connection, self.channel = channel_of(target)
        durable = bool(queue)
        self.queue = self.channel.queue_declare(queue, durable=durable, exclusive=not durable).method.queue

    def bind(self, exchange, key):
        self.channel.queue_bind(self.queue, exchange, key)
        return self

    def read(self, count, within=10.0, quiet=0.4):
        got, deadline = [], time.monotonic() + within
        while len(got) < count and time.monotonic() < deadline:
            method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                time.sleep(0.02)
                continue
            got.append((method, properties, body))
        end = time.monotonic() + quiet
        while time.monotonic() < end:
            method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is not None:
                got.append((method, properties, body))
            time.sleep(0.02)
        seen = [(m.exchange, m.routing_key, b[:20]) for m, _, b in got]
        equal(len(got), count, f"messages in queue {self.queue}: {seen}")
        return got

    def close(self):
        self.connection.close()


def mqtt_properties(headers, content_type=None):
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = headers
    if content_type:
        properties.ContentType = content_type
    return properties


def user_properties(message):
    return list(getattr(message.properties, "UserProperty", []))


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def kafka_headers(headers):
    return [(k, v.encode()) for k, v in headers]


def holds(actual, wanted, what):
    for pair in wanted:
        true(pair in actual, f"{what}: {pair} is missing from {actual}")


def cell(writer, reader):
    def register(function):
        return case(f"matrix/{writer}_to_{reader}")(function)

    return register


def readers(target, name):
    """An AMQP queue on the exchange of that name, and an MQTT subscriber below it."""
    amqp = Amqp(target)
    amqp.channel.exchange_declare(name, "topic", durable=True)
    amqp.bind(name, "#")
    mqtt = Peer(target, version=V5)
    mqtt.subscribe((f"{name}/#", 1))
    return amqp, mqtt


# Kafka writes.


@cell("kafka", "kafka")
def kafka_kafka(target):
    kafka = Kafka(target, target.name("n"))
    headers = [("a", b"1"), ("a", b"2"), ("null", None), ("bin", b"\x00\xff")]
    kafka.write(b"eu/created", BINARY, headers)
    kafka.write(None, b"", None)
    kafka.write(b"\x00\xff", None, None)
    equal(kafka.read(3), [(b"eu/created", BINARY, headers), (None, b"", []), (b"\x00\xff", None, [])], "records")


@cell("kafka", "amqp")
def kafka_amqp(target):
    name = target.name("n")
    create(target, name)
    amqp, mqtt = readers(target, name)
    mqtt.close()
    kafka = Kafka(target, name)
    kafka.write(b"eu/created", BINARY, kafka_headers(HEADERS))
    kafka.write(None, b"null key", None)
    kafka.write(b"\x00\xff\xfe", b"binary key", None)
    got = amqp.read(3)
    method, properties, body = got[0]
    equal((method.exchange, method.routing_key), (name, "eu.created"), "exchange and routing key")
    equal(body, BINARY, "payload")
    holds([(k, text(v)) for k, v in (properties.headers or {}).items()], HEADERS, "headers")
    equal((got[1][0].routing_key, got[1][2]), ("", b"null key"), "a record with a null key")
    equal(got[2][2], b"binary key", "a record with a binary key")
    note(f"binary key: routing key {got[2][0].routing_key!r}, headers {got[2][1].headers}")
    amqp.close()


@cell("kafka", "mqtt")
def kafka_mqtt(target):
    name = target.name("n")
    create(target, name)
    peer = Peer(target, version=V5)
    peer.subscribe((f"{name}/#", 1))
    kafka = Kafka(target, name)
    kafka.write(b"eu/created", BINARY, kafka_headers(HEADERS))
    kafka.write(None, b"null key", None)
    kafka.write(b"", b"empty key", None)
    kafka.write(b"\x00\xff\xfe", b"binary key", None)
    got = peer.take(4)
    equal((got[0].topic, got[0].payload), (f"{name}/eu/created", BINARY), "topic and payload")
    holds(user_properties(got[0]), HEADERS, "user properties")
    equal((got[1].topic, got[1].payload), (name, b"null key"), "a null key")
    equal((got[2].topic, got[2].payload), (f"{name}/", b"empty key"), "an empty key")
    equal(got[3].payload, b"binary key", "a binary key")
    true(got[3].topic.startswith(f"{name}/~b64"), f"a binary key's topic is {got[3].topic!r}")
    peer.nothing()
    peer.close()


# AMQP writes.


@cell("amqp", "kafka")
def amqp_kafka(target):
    name = target.name("n")
    amqp, mqtt = readers(target, name)
    mqtt.close()
    properties = pika.BasicProperties(content_type="text/plain", correlation_id="c-1", headers=dict(HEADERS))
    amqp.channel.basic_publish(name, "eu.created", BINARY, properties)
    amqp.channel.basic_publish(name, "", b"no key")
    amqp.read(2)
    got = Kafka(target, name).read(2)
    equal(got[0][:2], (b"eu/created", BINARY), "key and value")
    holds(got[0][2], kafka_headers(HEADERS) + [("content-type", b"text/plain"), ("correlation-id", b"c-1")],
          "headers")
    equal(got[1][:2], (None, b"no key"), "an empty routing key")
    amqp.close()


@cell("amqp", "amqp")
def amqp_amqp(target):
    name = target.name("n")
    amqp, mqtt = readers(target, name)
    mqtt.close()
    sent = pika.BasicProperties(content_type="x/y", headers={"int": 5, "nested": {"a": [1, None]}, "s": "é"})
    amqp.channel.basic_publish(name, "eu.created/with.slash", BINARY, sent)
    method, properties, body = amqp.read(1)[0]
    equal((method.exchange, method.routing_key, body), (name, "eu.created/with.slash", BINARY), "message")
    equal((properties.content_type, properties.headers), (sent.content_type, sent.headers), "typed properties")
    amqp.close()


@cell("amqp", "mqtt")
def amqp_mqtt(target):
    name = target.name("n")
    amqp, peer = readers(target, name)
    properties = pika.BasicProperties(
        content_type="text/plain", correlation_id="c-1", delivery_mode=2, headers=dict(HEADERS)
    )
    amqp.channel.basic_publish(name, "eu.created", BINARY, properties)
    amqp.channel.basic_publish(name, "", b"no key")
    got = peer.take(2)
    equal((got[0].topic, got[0].payload), (f"{name}/eu/created", BINARY), "topic and payload")
    holds(user_properties(got[0]), HEADERS, "user properties")
    equal(getattr(got[0].properties, "ContentType", None), "text/plain", "content type")
    equal(getattr(got[0].properties, "CorrelationData", None), b"c-1", "correlation data")
    equal((got[1].topic, got[1].payload), (name, b"no key"), "an empty routing key")
    peer.nothing()
    peer.close()
    amqp.close()


# MQTT writes.


@cell("mqtt", "kafka")
def mqtt_kafka(target):
    name = target.name("n")
    peer = Peer(target, version=V5)
    peer.publish(f"{name}/eu/created", BINARY, 1, properties=mqtt_properties(HEADERS + [("trace", "2")], "text/plain"))
    peer.publish(name, b"no level", 1)
    peer.publish(f"{name}/q2", b"", 2)
    got = Kafka(target, name).read(3)
    equal(got[0][:2], (b"eu/created", BINARY), "key and value")
    holds(got[0][2], kafka_headers(HEADERS) + [("trace", b"2"), ("content-type", b"text/plain")], "headers")
    equal(got[1][:2], (None, b"no level"), "a topic of one level")
    equal(got[2][:2], (b"q2", b""), "an empty payload is an empty value")
    peer.close()


@cell("mqtt", "amqp")
def mqtt_amqp(target):
    name = target.name("n")
    amqp, peer = readers(target, name)
    root = Amqp(target).bind("amq.topic", f"{name}.#")
    peer.publish(f"{name}/eu/created", BINARY, 1, properties=mqtt_properties(HEADERS, "text/plain"))
    peer.publish(name, b"no level", 2)
    got = amqp.read(2)
    method, properties, body = got[0]
    equal((method.routing_key, body), ("eu.created", BINARY), "routing key and payload")
    holds([(k, text(v)) for k, v in (properties.headers or {}).items()], HEADERS, "headers")
    equal(properties.content_type, "text/plain", "content type")
    equal((got[1][0].routing_key, got[1][2]), ("", b"no level"), "a topic of one level")
    got = root.read(2)
    equal([(m.routing_key, b) for m, _, b in got], [(f"{name}.eu.created", BINARY), (name, b"no level")],
          "through amq.topic")
    for one in (amqp, peer, root):
        one.close()


@cell("mqtt", "mqtt")
def mqtt_mqtt(target):
    name = target.name("n")
    peer = Peer(target, version=V5)
    peer.subscribe((f"{name}/#", 2))
    peer.publish(f"{name}/a.b/c%d", BINARY, 2, properties=mqtt_properties([("a", "1"), ("a", "2")]))
    got = peer.take(1)[0]
    equal((got.topic, got.payload, user_properties(got)), (f"{name}/a.b/c%d", BINARY, [("a", "1"), ("a", "2")]),
          "message")
    peer.nothing()
    peer.close()


# The provenance table.


@case("names/pika_default_publish_readable_from_kafka")
def pika_default(target):
    name = target.name("n")
    connection, channel = channel_of(target)
    channel.exchange_declare(name, "topic")
    for i in range(20):
        channel.basic_publish(name, f"k.{i}", str(i).encode())
    got = Kafka(target, name).read(20)
    equal([(k, v) for k, v, _ in got], [(f"k/{i}".encode(), str(i).encode()) for i in range(20)], "records")
    connection.close()


@case("names/provenance")
def provenance(target):
    name = target.name("n")
    kafka = Kafka(target, name)
    own = Amqp(target, name)
    bound, root = Amqp(target), Amqp(target)
    bound.channel.exchange_declare(name, "topic", durable=True)
    bound.bind(name, "#")
    root.bind("amq.topic", f"{name}.#")
    session = {"client_id": name, "version": V5, "clean": False, "expiry": 300}
    peer = Peer(target, **session)
    peer.subscribe((f"{name}/#", 1))
    wide = Peer(target, version=V5)
    wide.subscribe(("#", 1))
    writer = Peer(target, version=V5)

    kafka.write(b"k", b"kafka", None)
    writer.publish(f"{name}/k", b"mqtt", 1)
    channel = own.channel
    channel.basic_publish(name, "k", b"exchange")
    channel.basic_publish("amq.topic", f"{name}.k", b"amq.topic")
    channel.basic_publish("", name, b"default")
    channel.basic_publish("amq.direct", name, b"amq.direct")
    channel.basic_publish("amq.fanout", name, b"amq.fanout")

    wanted = {
        "queue": {b"kafka", b"mqtt", b"default"},
        "exchange": {b"kafka", b"mqtt", b"exchange"},
        "amq.topic": {b"kafka", b"mqtt", b"amq.topic"},
        "mqtt": {b"kafka", b"mqtt", b"exchange", b"amq.topic", b"default"},
        "kafka": {b"kafka", b"mqtt", b"exchange", b"amq.topic", b"default"},
        "mqtt #": {b"mqtt", b"exchange", b"amq.topic"},
    }
    time.sleep(2)
    got = {}
    for title, reader in (("queue", own), ("exchange", bound), ("amq.topic", root)):
        bodies = []
        while (item := reader.channel.basic_get(reader.queue, auto_ack=True))[0] is not None:
            bodies.append(item[2])
        got[title] = bodies
    for title, reader in (("mqtt", peer), ("mqtt #", wide)):
        messages = [reader.messages.get() for _ in range(reader.messages.qsize())]
        got[title] = [m.payload for m in messages if m.topic == name or m.topic.startswith(name + "/")]
    got["kafka"] = [value for _, value, _ in Kafka(target, name).read(5, exact=True)]
    problems = [
        f"{title}: wanted {sorted(want)}, got {sorted(got[title])}"
        for title, want in wanted.items()
        if sorted(got[title]) != sorted(want)
    ]
    true(not problems, "; ".join(problems))
    own.channel.queue_delete(name)


@case("names/session_competes_for_a_queue")
def session_competes(target):
    """`$queue/q`: an MQTT session beside an AMQP consumer, on the same entries."""
    name = target.name("q")
    connection, channel = channel_of(target)
    channel.queue_declare(name, durable=True)
    peer = Peer(target, client_id=name, version=V5, clean=False, expiry=300)
    codes = peer.subscribe((f"$queue/{name}", 1))
    true(codes is None or not any(code.is_failure for code in codes), f"refused: {codes}")
    got = []
    channel.basic_consume(name, lambda _c, method, _p, body: got.append((method.delivery_tag, body)))
    connection.process_data_events(0.3)
    persistent = pika.BasicProperties(delivery_mode=2)
    for i in range(20):
        channel.basic_publish("", name, str(i).encode(), persistent)
    deadline = time.monotonic() + 10
    while len(got) + peer.messages.qsize() < 20 and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    taken = [message.payload for message in peer.take(peer.messages.qsize())]
    equal(len(taken), 10, "half of them come by MQTT")
    equal(sorted([body for _, body in got] + taken, key=int), [str(i).encode() for i in range(20)], "each once")
    # What the AMQP consumer leaves goes to the session.
    connection.close()
    left = sorted(int(message.payload) for message in peer.take(10))
    equal(left, sorted(int(body) for _, body in got), "what was not acked goes to the session")
    peer.close()
    connection, channel = channel_of(target)
    equal(channel.queue_delete(name).method.message_count, 0, "all are acknowledged")
    connection.close()


@case("names/session_gives_back_to_a_queue")
def session_gives_back(target):
    """`$queue/q` of a queue that tries again later: what a session's connection left waits before others get it."""
    name = target.name("q")
    connection, channel = channel_of(target)
    retry = {"x-delayed-retry-type": "failed", "x-delayed-retry-min": 800, "x-delivery-limit": 1}
    channel.queue_declare(name, durable=True, arguments=retry)
    for turn in range(2):
        peer = Peer(target, client_id=name, version=V5, clean=True)
        peer.client.manual_ack_set(True)
        peer.subscribe((f"$queue/{name}", 1))
        if turn == 0:
            channel.basic_publish("", name, b"fails", pika.BasicProperties(delivery_mode=2))
        equal(peer.take(1)[0].payload, b"fails", "the session has it")
        began = time.monotonic()
        peer.close()
        if turn == 1:
            break
        method, _, _ = channel.basic_get(name, auto_ack=True)
        equal(method, None, "it waits")
        while channel.queue_declare(name, passive=True).method.message_count == 0:
            true(time.monotonic() < began + 10, "it comes back")
            connection.process_data_events(0.05)
        true(time.monotonic() > began + 0.75, "not before its time")
    connection.process_data_events(1)
    equal(channel.queue_delete(name).method.message_count, 0, "the limit ends it")
    connection.close()


@case("names/keys_share_a_queue")
def keys_share(target):
    """`x-key-shared`: a routing key's messages go to one consumer while it has any of them."""
    name = target.name("q")
    connection, channel = channel_of(target)
    channel.queue_declare(name, durable=True, arguments={"x-key-shared": True})
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(name, name)
    got = {}
    connections = []
    for who in range(3):
        c, ch = channel_of(target)
        ch.basic_qos(prefetch_count=10)

        def on_message(ch, method, _properties, body, who=who):
            got.setdefault(method.routing_key, []).append((who, int(body)))
            ch.basic_ack(method.delivery_tag)

        ch.basic_consume(name, on_message)
        connections.append(c)
    for i in range(200):
        channel.basic_publish(name, f"key{i % 8}", str(i).encode())
    deadline = time.monotonic() + 15
    while sum(map(len, got.values())) < 200 and time.monotonic() < deadline:
        for c in connections:
            c.process_data_events(0.01)
    equal(sum(map(len, got.values())), 200, "all are delivered")
    for key, taken in got.items():
        by_one = {}
        for who, number in taken:
            by_one.setdefault(who, []).append(number)
        for numbers in by_one.values():
            equal(numbers, sorted(numbers), f"the order of {key}")
    equal(len({who for taken in got.values() for who, _ in taken}), 3, "all three work")
    for c in connections:
        c.close()
    channel.queue_delete(name)
    channel.exchange_delete(name)
    connection.close()


@case("names/one_name_three_readers")
def one_name(target):
    """An AMQP queue, a Kafka group and an MQTT session on one name, each with its own progress."""
    name = target.name("n")
    queue = Amqp(target, name)
    session = {"client_id": name, "version": V5, "clean": False, "expiry": 300}
    peer = Peer(target, **session)
    peer.subscribe((f"{name}/#", 1))
    peer.close()
    kafka = Kafka(target, name)
    writer = Peer(target, version=V5)
    expected = []
    for i in range(30):
        body = str(i).encode()
        if i % 3 == 0:
            kafka.write(b"k", body, None)
        elif i % 3 == 1:
            writer.publish(f"{name}/k", body, 1)
        else:
            queue.channel.basic_publish("", name, body)
            queue.channel.queue_declare(name, passive=True)
        expected.append(body)
    got = [b for _, _, b in queue.read(30)]
    equal(sorted(got, key=int), expected, "the queue has each once")
    equal([v for _, v, _ in kafka.read(30)], expected, "the Kafka group has each once, in order")
    peer = Peer(target, **session)
    equal(sorted((m.payload for m in peer.take(30)), key=int), expected, "the MQTT session has each once")
    peer.nothing(0.5)
    queue.channel.queue_delete(name)
