"""pika's blocking connection."""

import time

import pika
from pika import exceptions

from harness import case, equal, true, wait_for


def connect(target, **config):
    host, port = target.amqp
    return pika.BlockingConnection(pika.ConnectionParameters(host=host, port=port, **config))


def channel_of(target):
    connection = connect(target)
    return connection, connection.channel()


def take(channel, queue, count, auto_ack=True, within=10.0):
    """Gets `count` messages one by one."""
    got = []
    deadline = time.monotonic() + within
    while len(got) < count:
        method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
        if method is None:
            true(time.monotonic() < deadline, f"only {len(got)} of {count} messages in {queue}")
            time.sleep(0.02)
            continue
        got.append((method, properties, body))
    return got


def empty(channel, queue, what="the queue is empty"):
    equal(channel.basic_get(queue, auto_ack=True)[0], None, what)


@case("pika/exchanges")
def exchanges(target):
    connection, channel = channel_of(target)
    q = {}
    for name in ("direct", "fan1", "fan2", "star", "hash"):
        q[name] = channel.queue_declare(target.name(name), exclusive=True).method.queue
    x = {kind: target.name(kind) for kind in ("direct", "fanout", "topic")}
    for kind, name in x.items():
        channel.exchange_declare(name, kind)
    channel.queue_bind(q["direct"], x["direct"], "red")
    channel.queue_bind(q["fan1"], x["fanout"])
    channel.queue_bind(q["fan2"], x["fanout"], "ignored")
    channel.queue_bind(q["star"], x["topic"], "*.eu.*")
    channel.queue_bind(q["hash"], x["topic"], "orders.#")
    channel.basic_publish(x["direct"], "red", b"d1")
    channel.basic_publish(x["direct"], "blue", b"d2")
    channel.basic_publish(x["fanout"], "any", b"f")
    for key in ("orders.eu.new", "orders", "orders.us", "stock.eu.old", "eu.x"):
        channel.basic_publish(x["topic"], key, key.encode())
    channel.basic_publish("", q["direct"], b"default")

    def bodies(queue):
        got = []
        while (item := channel.basic_get(queue, auto_ack=True))[0] is not None:
            got.append(item[2])
        return got

    time.sleep(0.3)
    equal(bodies(q["direct"]), [b"d1", b"default"], "direct and default")
    equal(bodies(q["fan1"]), [b"f"], "fanout, first")
    equal(bodies(q["fan2"]), [b"f"], "fanout, second")
    equal(bodies(q["star"]), [b"orders.eu.new", b"stock.eu.old"], "*.eu.*")
    equal(bodies(q["hash"]), [b"orders.eu.new", b"orders", b"orders.us"], "orders.#")
    channel.queue_unbind(q["direct"], x["direct"], "red")
    channel.basic_publish(x["direct"], "red", b"d3")
    time.sleep(0.1)
    equal(bodies(q["direct"]), [], "after unbind")
    for name in x.values():
        channel.exchange_delete(name)
    connection.close()


@case("pika/confirm_and_mandatory")
def confirm_and_mandatory(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q"), durable=True).method.queue
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    for i in range(100):
        channel.basic_publish("", queue, str(i).encode(), persistent, mandatory=True)
    try:
        channel.basic_publish("", target.name("nowhere"), b"lost", mandatory=True)
        raise AssertionError("an unroutable mandatory message was not returned")
    except exceptions.UnroutableError as error:
        returned = error.messages[0]
        equal(returned.method.reply_code, 312, "reply code")
        equal(returned.method.reply_text, "NO_ROUTE", "reply text")
        equal(returned.body, b"lost", "body of the returned message")
    channel.basic_publish("", target.name("nowhere"), b"unroutable, still confirmed")
    equal(channel.queue_declare(queue, passive=True).method.message_count, 100, "message count")
    equal([b for _, _, b in take(channel, queue, 100)], [str(i).encode() for i in range(100)], "order")
    channel.queue_delete(queue)
    connection.close()


@case("pika/get_ack_nack_reject")
def get_ack_nack_reject(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    for i in range(6):
        channel.basic_publish("", queue, str(i).encode())
    got = take(channel, queue, 6, auto_ack=False)
    true(not any(m.redelivered for m, _, _ in got), "first deliveries aren't redeliveries")
    equal(got[0][0].message_count, 5, "message count of get-ok")
    channel.basic_ack(got[0][0].delivery_tag)
    channel.basic_nack(got[3][0].delivery_tag, requeue=True)
    channel.basic_reject(got[1][0].delivery_tag, requeue=True)
    channel.basic_reject(got[2][0].delivery_tag, requeue=False)
    channel.basic_nack(got[5][0].delivery_tag, multiple=True, requeue=True)
    again = take(channel, queue, 4)
    equal([b for _, _, b in again], [b"1", b"3", b"4", b"5"], "requeued to where they were")
    true(all(m.redelivered for m, _, _ in again), "redelivered flag")
    empty(channel, queue)
    channel.queue_delete(queue)
    connection.close()


@case("pika/requeue_on_close")
def requeue_on_close(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    for i in range(5):
        channel.basic_publish("", queue, str(i).encode())
    other, reader = channel_of(target)
    take(reader, queue, 3, auto_ack=False)
    other.close()
    again = take(channel, queue, 5)
    equal([b for _, _, b in again], [b"%d" % i for i in range(5)], "order after the other closed")
    equal([m.redelivered for m, _, _ in again], [True] * 3 + [False] * 2, "redelivered flags")
    channel.queue_delete(queue)
    connection.close()


@case("pika/prefetch")
def prefetch(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    for i in range(20):
        channel.basic_publish("", queue, str(i).encode())
    channel.basic_qos(prefetch_count=5)
    got = []
    channel.basic_consume(queue, lambda _c, method, _p, body: got.append((method.delivery_tag, body)))
    wait_for(lambda: len(got) >= 5, "five deliveries", 10, lambda: connection.process_data_events(0.05))
    connection.process_data_events(0.4)
    equal(len(got), 5, "deliveries without an ack")
    channel.basic_ack(got[1][0], multiple=True)
    wait_for(lambda: len(got) >= 7, "two more", 10, lambda: connection.process_data_events(0.05))
    connection.process_data_events(0.4)
    equal(len(got), 7, "deliveries after two acks")
    equal([b for _, b in got], [b"%d" % i for i in range(7)], "order")
    connection.close()
    connection, channel = channel_of(target)
    equal(channel.queue_delete(queue).method.message_count, 18, "what was not acked is back")
    connection.close()


@case("pika/priorities")
def priorities(target):
    connection, channel = channel_of(target)
    for durable in (True, False):
        queue = target.name(f"q-{durable}")
        channel.queue_declare(queue, durable=durable, arguments={"x-max-priority": 5})
        for body, priority in ((b"a", None), (b"b", 3), (b"c", 200), (b"d", 3), (b"e", 0), (b"f", 5)):
            properties = pika.BasicProperties(priority=priority, delivery_mode=2)
            channel.basic_publish("", queue, body, properties)
        first = take(channel, queue, 1, auto_ack=False)[0]
        equal(first[2], b"c", "the highest, of those the oldest")
        channel.basic_reject(first[0].delivery_tag, requeue=True)
        equal([body for _, _, body in take(channel, queue, 6)], [b"c", b"f", b"b", b"d", b"a", b"e"], "order")
        channel.queue_delete(queue)
    for value, text in ((-1, "invalid arg 'x-max-priority'"), (256, "{max_value_exceeded,256}")):
        other = connection.channel()
        try:
            other.queue_declare(target.name("bad"), arguments={"x-max-priority": value})
            true(False, f"{value} is accepted")
        except exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, f"the code for {value}")
            true(text in closed.reply_text, closed.reply_text)
    connection.close()


def pump(*connections, seconds=0.4):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for connection in connections:
            connection.process_data_events(0.02)


@case("pika/single_active_consumer")
def single_active_consumer(target):
    connection, channel = channel_of(target)
    queue = target.name("q")
    channel.queue_declare(queue, durable=True, arguments={"x-single-active-consumer": True})
    got = {}
    connections = []
    for who in range(3):
        c, ch = channel_of(target)
        ch.basic_qos(prefetch_count=2)
        got[who] = []

        def on_message(ch, method, _properties, body, who=who):
            got[who].append((method, body))

        # A higher priority does not take the place of the active one.
        ch.basic_consume(queue, on_message, arguments={"x-priority": 10 if who == 2 else 0})
        connections.append((c, ch))
        pump(c, seconds=0.2)
    for i in range(6):
        channel.basic_publish("", queue, str(i).encode())
    pump(*(c for c, _ in connections))
    equal([[body for _, body in got[who]] for who in range(3)], [[b"0", b"1"], [], []], "the first alone is served")
    connections[0][1].basic_ack(got[0][0][0].delivery_tag)
    pump(*(c for c, _ in connections))
    equal([len(got[who]) for who in range(3)], [3, 0, 0], "it stays")
    connections[0][0].close()
    pump(connections[1][0], connections[2][0])
    equal([body for _, body in got[2]], [b"1", b"2"], "the highest priority follows, from where it was")
    equal(got[1], [], "one at a time")
    true(all(method.redelivered for method, _ in got[2]), "redelivered")
    other = connection.channel()
    try:
        other.basic_consume(queue, lambda *_: None, exclusive=True)
        true(False, "an exclusive consumer is accepted")
    except exceptions.ChannelClosedByBroker as closed:
        equal(closed.reply_code, 403, "exclusive")
    for c, _ in connections[1:]:
        c.close()
    channel.queue_delete(queue)
    connection.close()


@case("pika/consumer_priority")
def consumer_priority(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    got = {"low": [], "high": []}
    channel.basic_qos(prefetch_count=0)
    low, high = connection.channel(), connection.channel()
    high.basic_qos(prefetch_count=1)
    low.basic_consume(queue, lambda _c, method, _p, body: got["low"].append((method.delivery_tag, body)))
    high.basic_consume(
        queue,
        lambda _c, method, _p, body: got["high"].append((method.delivery_tag, body)),
        arguments={"x-priority": 5},
    )
    for i in range(3):
        channel.basic_publish("", queue, str(i).encode())
        pump(connection, seconds=0.2)
    equal([body for _, body in got["high"]], [b"0"], "the higher one first, as far as it may")
    equal([body for _, body in got["low"]], [b"1", b"2"], "blocked, it lets others have it")
    high.basic_ack(got["high"][0][0])
    pump(connection, seconds=0.2)
    channel.basic_publish("", queue, b"3")
    pump(connection, seconds=0.3)
    equal([body for _, body in got["high"]], [b"0", b"3"], "and has its turn again")
    channel.queue_delete(queue)
    connection.close()


@case("pika/prefetch_shared_and_each")
def prefetch_shared_and_each(target):
    connection, channel = channel_of(target)
    queues = [channel.queue_declare(target.name(f"q{n}")).method.queue for n in range(3)]
    for queue in queues:
        for i in range(4):
            channel.basic_publish("", queue, str(i).encode())
    for shared, expected in ((True, 3), (False, 9)):
        c, ch = channel_of(target)
        got = []
        ch.basic_qos(prefetch_count=3, global_qos=shared)
        for queue in queues:
            ch.basic_consume(queue, lambda _c, method, _p, body: got.append(method.delivery_tag))
        pump(c)
        equal(len(got), expected, f"unacked with global={shared}")
        # One more for each acked; all at once with multiple.
        ch.basic_ack(got[0])
        pump(c)
        equal(len(got), expected + 1, "one acked")
        ch.basic_ack(0, multiple=True)
        pump(c)
        equal(len(got), min(12 if not shared else 2 * expected + 1, 12), "all acked")
        ch.basic_recover(requeue=True)
        c.close()
        for queue in queues:
            channel.queue_purge(queue)
            for i in range(4):
                channel.basic_publish("", queue, str(i).encode())
    c, ch = channel_of(target)
    got = []
    ch.basic_qos(prefetch_count=65535)
    ch.basic_consume(queues[0], lambda _c, method, _p, body: got.append((method.redelivered, body)))
    pump(c)
    equal(got, [(False, b"%d" % i) for i in range(4)], "the largest prefetch")
    ch.basic_recover(requeue=True)
    pump(c)
    equal(got[4:], [(True, b"%d" % i) for i in range(4)], "recovered, in order")
    c.close()
    for queue in queues:
        channel.queue_delete(queue)
    connection.close()


@case("pika/competing_consumers")
def competing_consumers(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    got = {}
    consumers = []
    for who in range(2):
        c, ch = channel_of(target)
        ch.basic_qos(prefetch_count=10)
        got[who] = []

        def on_message(ch, method, _properties, body, who=who):
            got[who].append(int(body))
            ch.basic_ack(method.delivery_tag)

        ch.basic_consume(queue, on_message)
        consumers.append(c)
    for i in range(200):
        channel.basic_publish("", queue, str(i).encode())

    def step():
        for c in consumers:
            c.process_data_events(0.01)

    wait_for(lambda: sum(map(len, got.values())) >= 200, "all are delivered", 15, step)
    equal(sorted(got[0] + got[1]), list(range(200)), "each once")
    true(len(got[0]) >= 10 and len(got[1]) >= 10, f"both work: {len(got[0])} and {len(got[1])}")
    for values in got.values():
        equal(values, sorted(values), "order at one consumer")
    for c in consumers:
        c.close()
    channel.queue_delete(queue)
    connection.close()


@case("pika/exclusive_and_auto_delete")
def exclusive_and_auto_delete(target):
    connection, channel = channel_of(target)
    exclusive = channel.queue_declare("", exclusive=True).method.queue
    true(exclusive.startswith("amq.gen-"), f"a server-named queue is called {exclusive}")
    other, channel2 = channel_of(target)
    try:
        channel2.queue_declare(exclusive, passive=True)
        raise AssertionError("another connection reached an exclusive queue")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 405, "reply code")
    channel2 = other.channel()
    queue = channel2.queue_declare(target.name("auto"), auto_delete=True).method.queue
    tag = channel2.basic_consume(queue, lambda *_: None)
    channel.queue_declare(queue, passive=True)
    channel2.basic_cancel(tag)
    try:
        channel.queue_declare(queue, passive=True)
        raise AssertionError("an auto-delete queue outlived its last consumer")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "reply code")
    connection.close()
    try:
        other.channel().queue_declare(exclusive, passive=True)
        raise AssertionError("an exclusive queue outlived its connection")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "reply code")
    channel2 = other.channel()
    queue = channel2.queue_declare(target.name("ex")).method.queue
    channel2.basic_consume(queue, lambda *_: None, exclusive=True)
    try:
        other.channel().basic_consume(queue, lambda *_: None)
        raise AssertionError("a second consumer joined an exclusive one")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 403, "reply code")
    other.close()


@case("pika/errors")
def errors(target):
    connection, _ = channel_of(target)
    missing = target.name("missing")

    def refused(code, act, text=None):
        channel = connection.channel()
        try:
            act(channel)
            raise AssertionError(f"no error where {code} was due")
        except exceptions.ChannelClosedByBroker as error:
            equal(error.reply_code, code, "reply code")
            if text:
                equal(error.reply_text, text, "reply text")

    refused(404, lambda c: c.queue_declare(missing, passive=True), f"NOT_FOUND - no queue '{missing}' in vhost '/'")
    refused(404, lambda c: c.exchange_declare(missing, passive=True),
            f"NOT_FOUND - no exchange '{missing}' in vhost '/'")
    refused(404, lambda c: c.basic_consume(missing, lambda *_: None))
    refused(404, lambda c: c.queue_bind(missing, "amq.topic", "x"))
    refused(403, lambda c: c.queue_declare("amq.mine"))
    refused(403, lambda c: c.exchange_declare("amq.mine", "direct"))
    queue = target.name("q")
    connection.channel().queue_declare(queue, durable=False)
    refused(406, lambda c: c.queue_declare(queue, durable=True),
            f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': "
            "received 'true' but current is 'false'")

    def publish_nowhere(c):
        c.basic_publish(missing, "k", b"x")
        c.queue_declare(queue, passive=True)

    refused(404, publish_nowhere)

    def unknown_tag(c):
        c.basic_ack(77)
        c.queue_declare(queue, passive=True)

    refused(406, unknown_tag, "PRECONDITION_FAILED - unknown delivery tag 77")
    channel = connection.channel()
    equal(channel.queue_delete(missing).method.message_count, 0, "deleting a missing queue is no error")
    channel.exchange_delete(missing)
    channel.queue_delete(queue)
    connection.close()


@case("pika/queue_delete_and_purge")
def queue_delete_and_purge(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    for _ in range(7):
        channel.basic_publish("", queue, b"x")
    wait_for(lambda: channel.queue_declare(queue, passive=True).method.message_count == 7, "7 messages")
    equal(channel.queue_purge(queue).method.message_count, 7, "purged")
    empty(channel, queue)
    channel.basic_publish("", queue, b"x")
    wait_for(lambda: channel.queue_declare(queue, passive=True).method.message_count == 1, "1 message")
    try:
        connection.channel().queue_delete(queue, if_empty=True)
        raise AssertionError("a queue with a message was deleted if-empty")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 406, "reply code")
    equal(channel.queue_delete(queue).method.message_count, 1, "deleted with")
    connection.close()


@case("pika/properties")
def properties(target):
    connection, channel = channel_of(target)
    queue = channel.queue_declare(target.name("q")).method.queue
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3,
        correlation_id="c-1", reply_to="back", expiration="60000", message_id="m-1",
        timestamp=1_700_000_000, type="kind", user_id="guest", app_id="app",
        headers={"text": "é", "int": 7, "big": 1 << 40, "neg": -3, "true": True, "bytes": b"\x00\xff",
                 "nested": {"a": [1, "b", None]}, "none": None},
    )
    body = bytes(range(256)) * 2000
    channel.basic_publish("", queue, body, sent)
    channel.basic_publish("", queue, b"")
    (_, got, received), (_, plain, nothing) = take(channel, queue, 2)
    equal(received, body, "body larger than a frame")
    for name in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
                 "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "headers"):
        equal(getattr(got, name), getattr(sent, name), name)
    equal((nothing, plain.headers, plain.content_type), (b"", None, None), "the empty message")
    channel.queue_delete(queue)
    connection.close()


@case("pika/durable_survives_restart")
def durable_survives_restart(target):
    connection, channel = channel_of(target)
    durable, exchange, transient = target.name("d"), target.name("x"), target.name("t")
    if target.phase == 1:
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(durable, durable=True)
        channel.queue_declare(transient)
        channel.queue_bind(durable, exchange, "a.#")
        channel.confirm_delivery()
        for i in range(100):
            channel.basic_publish(exchange, "a.b", str(i).encode(), pika.BasicProperties(delivery_mode=2),
                                  mandatory=True)
        for method, _, _ in take(channel, durable, 10, auto_ack=False):
            channel.basic_ack(method.delivery_tag)
        # Acks are on disk at most 200 ms later.
        time.sleep(0.5)
        return
    equal(channel.queue_declare(durable, passive=True).method.message_count, 90, "messages after the restart")
    got = take(channel, durable, 90)
    equal([b for _, _, b in got], [str(i).encode() for i in range(10, 100)], "what was not acked, in order")
    channel.basic_publish(exchange, "a.c", b"after")
    equal(take(channel, durable, 1)[0][2], b"after", "the binding is there")
    try:
        channel.queue_declare(transient, passive=True)
        raise AssertionError("a transient queue survived the restart")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "reply code")
    connection.close()


@case("pika/many_channels")
def many_channels(target):
    connection = connect(target)
    queue = target.name("q")
    connection.channel().queue_declare(queue)
    channels = [connection.channel() for _ in range(50)]
    for i, channel in enumerate(channels):
        channel.basic_publish("", queue, str(i).encode())
    for channel in channels[:25]:
        channel.close()
    got = take(channels[-1], queue, 50)
    equal(sorted(int(b) for _, _, b in got), list(range(50)), "a message of each channel")
    channels[-1].queue_delete(queue)
    connection.close()
