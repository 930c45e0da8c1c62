"""How messages leave a RabbitMQ queue without being consumed: limits, time, refusal, and where dead letters go."""

import time

import pika
from pika import exceptions

from amqp_pika import channel_of, connect, empty, take
from harness import case, equal, true, wait_for

LASTING = pika.BasicProperties(delivery_mode=2)


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def declare(channel, queue, durable=True, **arguments):
    arguments = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    return channel.queue_declare(queue, durable=durable, arguments=arguments).method.queue


def with_dead_letters(channel, target, name, durable=True, **arguments):
    """A queue whose dead letters go to another, by way of the default exchange."""
    dead = channel.queue_declare(target.name(name + "-dead"), durable=durable).method.queue
    arguments = {"dead_letter_exchange": "", "dead_letter_routing_key": dead, **arguments}
    return declare(channel, target.name(name), durable, **arguments), dead


def bodies(messages):
    return [body for _, _, body in messages]


def deaths(properties):
    return [
        (death["queue"], death["reason"], death["count"], death["exchange"], death["routing-keys"])
        for death in properties.headers["x-death"]
    ]


@case("pika/max_length_drop_head")
def max_length_drop_head(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    for durable in (True, False):
        queue, dead = with_dead_letters(channel, target, f"q{durable}", durable, max_length=3)
        for i in range(5):
            channel.basic_publish("", queue, str(i).encode(), LASTING)
        wait_for(lambda: count(channel, dead) == 2, "two are over the limit")
        equal(count(channel, queue), 3, "messages in the queue")
        got = take(channel, queue, 2, auto_ack=False)
        equal(bodies(got), [b"2", b"3"], "the oldest are gone")
        # What a consumer has does not count.
        for i in range(5, 8):
            channel.basic_publish("", queue, str(i).encode(), LASTING)
        wait_for(lambda: count(channel, queue) == 3, "three ready ones beside those with the consumer")
        channel.basic_ack(got[0][0].delivery_tag)
        channel.basic_ack(got[1][0].delivery_tag)
        equal(bodies(take(channel, queue, 3)), [b"5", b"6", b"7"], "the newest stay")
        died = take(channel, dead, 3)
        equal(bodies(died), [b"0", b"1", b"4"], "dead letters in their order")
        equal(deaths(died[0][1]), [(queue, "maxlen", 1, "", [queue])], "why it died")
        channel.queue_delete(queue)
        channel.queue_delete(dead)
    connection.close()


@case("pika/max_length_bytes")
def max_length_bytes(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    queue = declare(channel, target.name("q"), max_length_bytes=25)
    for i in range(5):
        channel.basic_publish("", queue, str(i).encode() * 10, LASTING)
    wait_for(lambda: count(channel, queue) == 2, "two messages of ten bytes fit into 25")
    equal(bodies(take(channel, queue, 2)), [b"3" * 10, b"4" * 10], "the newest")
    channel.basic_publish("", queue, b"x" * 30, LASTING)
    wait_for(lambda: count(channel, queue) == 0, "one that is too large alone")
    channel.queue_delete(queue)
    connection.close()


@case("pika/max_length_reject_publish")
def max_length_reject_publish(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    queue = declare(channel, target.name("q"), max_length=2, overflow="reject-publish")
    refused = []
    for i in range(4):
        try:
            channel.basic_publish("", queue, str(i).encode(), LASTING)
        except exceptions.NackError:
            refused.append(i)
    equal(refused, [2, 3], "refused")
    equal(bodies(take(channel, queue, 2)), [b"0", b"1"], "the oldest stay")
    channel.basic_publish("", queue, b"4", LASTING)
    equal(bodies(take(channel, queue, 1)), [b"4"], "room again")
    channel.queue_delete(queue)

    queue, dead = with_dead_letters(channel, target, "dlx", max_length=1, overflow="reject-publish-dlx")
    channel.basic_publish("", queue, b"first", LASTING)
    try:
        channel.basic_publish("", queue, b"second", LASTING)
        raise AssertionError("a full queue took a message")
    except exceptions.NackError:
        pass
    died = take(channel, dead, 1)
    equal(bodies(died), [b"second"], "what was refused is a dead letter")
    equal(deaths(died[0][1])[0][:3], (queue, "maxlen", 1), "why it died")
    channel.queue_delete(queue)
    channel.queue_delete(dead)
    connection.close()


@case("pika/message_ttl")
def message_ttl(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    for durable in (True, False):
        queue, dead = with_dead_letters(channel, target, f"q{durable}", durable, message_ttl=300)
        for i in range(3):
            channel.basic_publish("", queue, str(i).encode(), LASTING)
        equal(count(channel, queue), 3, "before their time")
        wait_for(lambda: count(channel, dead) == 3, "they expire", within=3)
        equal(count(channel, queue), 0, "after their time")
        died = take(channel, dead, 3)
        equal(bodies(died), [b"0", b"1", b"2"], "in their order")
        headers = died[0][1].headers
        equal(deaths(died[0][1]), [(queue, "expired", 1, "", [queue])], "why it died")
        equal(headers["x-first-death-queue"], queue, "x-first-death-queue")
        equal(headers["x-first-death-reason"], "expired", "x-first-death-reason")
        equal(headers["x-first-death-exchange"], "", "x-first-death-exchange")
        channel.queue_delete(queue)
        channel.queue_delete(dead)
    connection.close()


@case("pika/expiration")
def expiration(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    queue, dead = with_dead_letters(channel, target, "q", message_ttl=60000)
    short = pika.BasicProperties(delivery_mode=2, expiration="200", headers={"mine": 1})
    channel.basic_publish("", queue, b"short", short)
    channel.basic_publish("", queue, b"long", LASTING)
    wait_for(lambda: count(channel, dead) == 1, "the shorter time counts", within=3)
    equal(count(channel, queue), 1, "the other one stays")
    [(_, properties, body)] = take(channel, dead, 1)
    equal(body, b"short", "body")
    equal(properties.expiration, None, "it does not expire again")
    equal(properties.headers["x-death"][0].get("original-expiration"), "200", "original-expiration")
    equal(properties.headers["mine"], 1, "its own headers")
    # Behind a message that stays, an expired one is not delivered.
    channel.basic_publish("", queue, b"behind", short)
    time.sleep(0.4)
    equal(bodies(take(channel, queue, 1)), [b"long"], "the head")
    wait_for(lambda: count(channel, dead) == 1, "and the one behind it expires", within=3)
    empty(channel, queue)
    channel.queue_delete(queue)
    channel.queue_delete(dead)
    connection.close()


@case("pika/ttl_of_nothing")
def ttl_of_nothing(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    for durable in (True, False):
        queue = declare(channel, target.name(f"q{durable}"), durable, message_ttl=0)
        channel.basic_publish("", queue, b"nobody", LASTING)
        wait_for(lambda: count(channel, queue) == 0, "nobody takes it")
        got = []
        channel.basic_consume(queue, lambda c, m, p, body: got.append(body), auto_ack=True)
        channel.basic_publish("", queue, b"somebody", LASTING)
        wait_for(lambda: connection.process_data_events(0.05) or got, "somebody takes it at once")
        equal(got, [b"somebody"], "delivered")
        channel.queue_delete(queue)
        # The same by the message's own expiration.
        queue = declare(channel, target.name(f"own{durable}"), durable)
        at_once = pika.BasicProperties(delivery_mode=2, expiration="0")
        channel.basic_publish("", queue, b"nobody", at_once)
        wait_for(lambda: count(channel, queue) == 0, "nobody takes this one either")
        got = []
        channel.basic_consume(queue, lambda c, m, p, body: got.append(body), auto_ack=True)
        channel.basic_publish("", queue, b"somebody", at_once)
        wait_for(lambda: connection.process_data_events(0.05) or got, "somebody takes it at once")
        equal(got, [b"somebody"], "delivered in spite of its expiration")
        channel.queue_delete(queue)
    connection.close()


@case("pika/queue_expires")
def queue_expires(target):
    connection, channel = channel_of(target)
    used = declare(channel, target.name("used"), expires=500)
    channel.basic_consume(used, lambda *_: None)

    def stays_while_used(name):
        """Uses it in time, three times over; nothing is said where the machine kept it from being in time."""
        channel = connection.channel()
        last_use = time.monotonic()
        declare(channel, name, expires=500)
        try:
            for _ in range(3):
                time.sleep(0.3)
                now = time.monotonic()
                channel.basic_get(name)
                last_use = now
            return True
        except exceptions.ChannelClosedByBroker:
            if time.monotonic() - last_use < 0.5:
                raise
            return False

    tries = (target.name(f"q{number}") for number in range(10))
    queue = next(name for name in tries if stays_while_used(name))

    def gone(name):
        other = connection.channel()
        try:
            other.queue_declare(name, passive=True)
            other.close()
            return False
        except exceptions.ChannelClosedByBroker:
            return True

    # To ask for it would be to use it.
    time.sleep(1.5)
    equal(gone(queue), True, "a queue that nobody uses goes")
    equal(gone(used), False, "one with a consumer stays")
    connection.close()


@case("pika/dead_letters_of_refusals")
def dead_letters_of_refusals(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    exchange = target.name("dlx")
    channel.exchange_declare(exchange, "topic", durable=True)
    dead = channel.queue_declare(target.name("dead"), durable=True).method.queue
    queue = declare(channel, target.name("q"), dead_letter_exchange=exchange)
    channel.queue_bind(dead, exchange, "#")
    source = target.name("x")
    channel.exchange_declare(source, "topic", durable=True)
    channel.queue_bind(queue, source, "a.*")
    channel.basic_publish(source, "a.b", b"one", pika.BasicProperties(delivery_mode=2, content_type="text/plain"))
    channel.basic_publish(source, "a.c", b"two", LASTING)
    got = take(channel, queue, 2, auto_ack=False)
    channel.basic_reject(got[0][0].delivery_tag, requeue=False)
    channel.basic_nack(got[1][0].delivery_tag, requeue=False)
    (method, properties, body), (second, _, _) = take(channel, dead, 2)
    equal((method.exchange, method.routing_key, body), (exchange, "a.b", b"one"), "with its own key")
    equal(second.routing_key, "a.c", "the other one's key")
    equal(properties.content_type, "text/plain", "its properties")
    equal(deaths(properties), [(queue, "rejected", 1, source, ["a.b"])], "why it died")
    # Without a place for them they are dropped.
    plain = declare(channel, target.name("plain"))
    channel.basic_publish("", plain, b"x", LASTING)
    [(method, _, _)] = take(channel, plain, 1, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    empty(channel, plain)
    for name in (queue, dead, plain):
        channel.queue_delete(name)
    for name in (exchange, source):
        channel.exchange_delete(name)
    connection.close()


@case("pika/dead_letters_go_round")
def dead_letters_go_round(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    # A work queue and one in which messages wait for their next try.
    work, wait = target.name("work"), target.name("wait")
    declare(channel, work, dead_letter_exchange="", dead_letter_routing_key=wait)
    declare(channel, wait, message_ttl=100, dead_letter_exchange="", dead_letter_routing_key=work)
    channel.basic_publish("", work, b"try", LASTING)
    for turn in range(1, 4):
        [(method, properties, _)] = take(channel, work, 1, auto_ack=False)
        if turn > 1:
            seen = {(queue, reason): n for queue, reason, n, _, _ in deaths(properties)}
            equal(seen, {(work, "rejected"): turn - 1, (wait, "expired"): turn - 1}, "counts")
            newest = deaths(properties)[0]
            equal(newest[:2], (wait, "expired"), "the newest comes first")
        channel.basic_reject(method.delivery_tag, requeue=False)
    [(method, _, _)] = take(channel, work, 1, auto_ack=False)
    channel.basic_ack(method.delivery_tag)
    # Without anybody's refusal it does not go round.
    alone = declare(channel, target.name("alone"), message_ttl=100, dead_letter_exchange="")
    channel.basic_publish("", alone, b"x", LASTING)
    wait_for(lambda: count(channel, alone) == 0, "a message that would come back to where it expired", within=3)
    time.sleep(0.3)
    empty(channel, alone)
    for name in (work, wait, alone):
        channel.queue_delete(name)
    connection.close()


@case("pika/delivery_limit")
def delivery_limit(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    arguments = {"queue_type": "quorum", "delivery_limit": 2}
    queue, dead = with_dead_letters(channel, target, "q", **arguments)
    channel.basic_publish("", queue, b"poison", LASTING)
    counts = []
    for _ in range(3):
        [(method, properties, _)] = take(channel, queue, 1, auto_ack=False)
        counts.append((properties.headers or {}).get("x-delivery-count"))
        channel.basic_reject(method.delivery_tag, requeue=True)
    equal(counts, [0, 1, 2], "x-delivery-count")
    [(_, properties, body)] = take(channel, dead, 1)
    equal(body, b"poison", "body")
    equal(deaths(properties)[0][:3], (queue, "delivery_limit", 1), "why it died")
    empty(channel, queue)
    channel.queue_delete(queue)
    channel.queue_delete(dead)
    connection.close()


@case("pika/delayed_retry")
def delayed_retry(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    retry = {"delayed_retry_type": "all", "delayed_retry_min": 300, "delayed_retry_max": 700}
    queue, dead = with_dead_letters(channel, target, "q", queue_type="quorum", delivery_limit=3, **retry)
    channel.basic_publish("", queue, b"fails", LASTING)
    channel.basic_publish("", queue, b"next", LASTING)
    waits, counts = [], []
    given_back = None
    for _ in range(4):
        [(method, properties, body)] = take(channel, queue, 1, auto_ack=False)
        equal(body, b"fails", "it has its old place")
        if given_back is not None:
            waits.append(time.monotonic() - given_back)
            true(method.redelivered, "it comes again")
        headers = properties.headers or {}
        counts.append((headers.get("x-delivery-count"), headers.get("x-acquired-count")))
        given_back = time.monotonic()
        channel.basic_reject(method.delivery_tag, requeue=True)
        if len(counts) == 1:
            # What comes behind it is delivered meanwhile.
            [(method, _, body)] = take(channel, queue, 1, auto_ack=False)
            equal(body, b"next", "the next one")
            channel.basic_ack(method.delivery_tag)
    equal(counts, [(0, 0), (1, 1), (2, 2), (3, 3)], "x-delivery-count and x-acquired-count")
    for waited, least in zip(waits, (0.3, 0.6, 0.7)):
        true(least - 0.01 <= waited < least + 2, f"waited {waits}")
    [(_, properties, body)] = take(channel, dead, 1)
    equal((body, deaths(properties)[0][:3]), (b"fails", (queue, "delivery_limit", 1)), "why it died")
    empty(channel, dead, "it died once")
    # basic.nack is no failure: it waits the shortest time, and uses up nothing.
    channel.basic_publish("", queue, b"nacked", LASTING)
    for turn in range(5):
        [(method, properties, _)] = take(channel, queue, 1, auto_ack=False)
        headers = properties.headers or {}
        equal((headers.get("x-delivery-count"), headers.get("x-acquired-count")), (0, turn), "counts")
        given_back = time.monotonic()
        channel.basic_nack(method.delivery_tag, requeue=True)
        empty(channel, queue, "it waits")
        wait_for(lambda: count(channel, queue) == 1, "it comes back")
        waited = time.monotonic() - given_back
        true(0.29 <= waited < 2.3, f"waited {waited}")
    # The end of a connection is one.
    other, its = channel_of(target)
    take(its, queue, 1, auto_ack=False)
    other.close()
    empty(channel, queue, "what its consumer failed at waits")
    [(_, properties, _)] = take(channel, queue, 1)
    equal(properties.headers["x-delivery-count"], 1, "x-delivery-count")
    channel.queue_delete(queue)
    channel.queue_delete(dead)
    connection.close()


@case("pika/delayed_retry_of_what")
def delayed_retry_of_what(target):
    connection, channel = channel_of(target)
    for durable in (True, False):
        for kind, waits in (("failed", (True, False)), ("returned", (False, True)), ("disabled", (False, False))):
            retry = {"delayed_retry_type": kind, "delayed_retry_min": 400, "delayed_retry_multiplier": 1}
            queue = declare(channel, target.name(f"{kind}{durable}"), durable, **retry)
            for give_back, waits in zip((channel.basic_reject, channel.basic_nack), waits):
                channel.basic_publish("", queue, b"x", LASTING)
                [(method, _, _)] = take(channel, queue, 1, auto_ack=False)
                given_back = time.monotonic()
                give_back(method.delivery_tag, requeue=True)
                take(channel, queue, 1)
                waited = time.monotonic() - given_back
                true((waited > 0.39) == waits, f"{kind}: {give_back.__name__} waited {waited}")
            channel.queue_delete(queue)
    connection.close()


@case("pika/queue_arguments")
def queue_arguments(target):
    connection = connect(target)

    def refused(code, **arguments):
        channel = connection.channel()
        try:
            declare(channel, target.name("q"), **arguments)
        except exceptions.ChannelClosedByBroker as error:
            equal(error.reply_code, code, str(arguments))
            return
        raise AssertionError(f"{arguments} was taken")

    refused(406, message_ttl="1")
    refused(406, message_ttl=-1)
    refused(406, expires=0)
    refused(406, max_length=-1)
    refused(406, max_length_bytes="many")
    refused(406, overflow="drop-tail")
    refused(406, dead_letter_routing_key="k")
    refused(406, delayed_retry_type="sometimes", delayed_retry_min=1)
    refused(406, delayed_retry_type="all")
    refused(406, delayed_retry_type="all", delayed_retry_min=-1)
    refused(406, delayed_retry_type="all", delayed_retry_min="1")
    refused(406, delayed_retry_type="all", delayed_retry_min=1, delayed_retry_multiplier=0)
    refused(406, delayed_retry_min=1)
    refused(406, delayed_retry_max=1)
    channel = connection.channel()
    retry = {"delayed_retry_type": "all", "delayed_retry_min": 1, "delayed_retry_max": 9}
    queue = declare(channel, target.name("q"), **retry)
    for other in ({"delayed_retry_max": 8}, {"delayed_retry_type": "failed"}, {"delayed_retry_multiplier": 2}):
        refused(406, **{**retry, **other})
    declare(connection.channel(), queue, **retry)
    connection.channel().queue_delete(queue)
    channel = connection.channel()
    queue = declare(channel, target.name("q"), max_length=5)
    refused(406, max_length=6)
    declare(connection.channel(), queue, max_length=5)
    connection.channel().queue_delete(queue)
    true(connection.is_open, "the connection lives")
    connection.close()


def delayed_exchange(channel, target, name, kind, durable=True):
    exchange = target.name(name)
    channel.exchange_declare(exchange, "x-delayed-message", durable=durable, arguments={"x-delayed-type": kind})
    return exchange


def delayed(delay, **properties):
    return pika.BasicProperties(delivery_mode=2, headers={"x-delay": delay, "kept": "as it was"}, **properties)


@case("pika/delayed_messages")
def delayed_messages(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    exchange = delayed_exchange(channel, target, "later", "topic")
    queue = channel.queue_declare(target.name("q"), durable=True).method.queue
    channel.queue_bind(queue, exchange, "a.*")
    began = time.monotonic()
    # Not returned, though nobody can tell yet whether it will be routed.
    channel.basic_publish(exchange, "b.c", b"unroutable", delayed(200), mandatory=True)
    channel.basic_publish(exchange, "a.1", b"second", delayed(1200))
    channel.basic_publish(exchange, "a.2", b"first", delayed(600))
    channel.basic_publish(exchange, "a.3", b"at once", LASTING)
    channel.basic_publish(exchange, "a.4", b"negative", delayed(-600))
    channel.basic_publish(exchange, "a.5", b"no number", delayed("soon"))
    got = take(channel, queue, 3)
    equal(bodies(got), [b"at once", b"negative", b"no number"], "what has no delay")
    equal(got[1][1].headers["x-delay"], -600, "the header of what was not delayed")
    empty(channel, queue)
    got = take(channel, queue, 2)
    true(time.monotonic() - began >= 1.2, "not before they are due")
    equal(bodies(got), [b"first", b"second"], "in the order in which they are due")
    equal(got[0][1].headers, {"x-delay": -600, "kept": "as it was"}, "its headers")
    equal(got[0][0].routing_key, "a.2", "its routing key")
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    connection.close()


@case("pika/delayed_messages_are_routed_when_due")
def delayed_messages_are_routed_when_due(target):
    connection, channel = channel_of(target)
    channel.confirm_delivery()
    exchange = delayed_exchange(channel, target, "later", "headers")
    properties = pika.BasicProperties(delivery_mode=2, expiration="500", headers={"x-delay": 800, "kind": 7})
    channel.basic_publish(exchange, "", b"for a binding to come", properties)
    queue = channel.queue_declare(target.name("q"), durable=True).method.queue
    channel.queue_bind(queue, exchange, "", {"x-match": "all", "kind": 7})
    # Its time to live counts from then.
    equal(bodies(take(channel, queue, 1)), [b"for a binding to come"], "by the binding of then")
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    connection.close()


@case("pika/delayed_exchange_needs_a_type")
def delayed_exchange_needs_a_type(target):
    for arguments in ({}, {"x-delayed-type": "x-delayed-message"}, {"x-delayed-type": 7}):
        connection, channel = channel_of(target)
        try:
            channel.exchange_declare(target.name("bad"), "x-delayed-message", arguments=arguments)
            raise AssertionError(f"declared with {arguments}")
        except exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, "the reply code")
        connection.close()
