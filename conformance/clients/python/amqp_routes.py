"""Which queues a message reaches: random topologies of all exchange types, bindings of exchanges, alternates and copies,
compared with a model of RabbitMQ's rules that holds on RabbitMQ itself."""

import random

import pika
from pika import exceptions

from amqp_pika import channel_of
from harness import case, equal, true, wait_for

WORDS = ["a", "b", "c", ""]
VALUES = ["1", "2", 3, True, None]
NAMES = ["h", "i", "x-j"]


def topic_matches(pattern, words):
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(topic_matches(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and topic_matches(pattern[1:], words[1:])


def split(key):
    return key.split(".") if key else []


def headers_match(arguments, headers):
    mode = arguments.get("x-match", "all")
    asked = {
        name: value
        for name, value in arguments.items()
        if name != "x-match" and (mode.endswith("-with-x") or not name.startswith("x-"))
    }

    def holds(name, value):
        if name not in headers:
            return False
        held = headers[name]
        return value is None or (type(held) is type(value) and held == value)

    found = [holds(name, value) for name, value in asked.items()]
    return any(found) if mode.startswith("any") else all(found)


class Topology:
    """What is declared, and where a message goes by it."""

    def __init__(self):
        self.exchanges = {}
        self.bindings = []

    def takes(self, kind, binding, key, headers):
        if kind == "fanout":
            return True
        if kind == "direct":
            return binding["key"] == key
        if kind == "topic":
            return topic_matches(split(binding["key"]), split(key))
        return headers_match(binding["arguments"], headers)

    def routes(self, exchange, keys, headers):
        """All queues reached from an exchange; each exchange is visited once."""
        queues, waiting, visited = set(), [exchange], {exchange}
        while waiting:
            name = waiting.pop()
            kind, alternate = self.exchanges[name]
            reached = [
                (binding["is_queue"], binding["target"])
                for binding in self.bindings
                if binding["source"] == name and any(self.takes(kind, binding, key, headers) for key in keys)
            ]
            if not reached and alternate:
                reached = [(False, alternate)]
            for is_queue, target in reached:
                if is_queue:
                    queues.add(target)
                elif target not in visited:
                    visited.add(target)
                    waiting.append(target)
        return queues


def build(target, channel, chance, number):
    """Declares a random topology."""
    topology = Topology()
    exchanges = [target.name(f"t{number}-e{i}") for i in range(6)]
    queues = [target.name(f"t{number}-q{i}") for i in range(6)]
    for i, name in enumerate(exchanges):
        kind = ["direct", "fanout", "topic", "headers"][i] if i < 4 else chance.choice(["direct", "topic"])
        alternate = chance.choice(exchanges) if chance.random() < 0.4 else None
        arguments = {"alternate-exchange": alternate} if alternate else {}
        channel.exchange_declare(name, kind, durable=chance.random() < 0.5, arguments=arguments)
        topology.exchanges[name] = (kind, alternate)
    for name in queues:
        channel.queue_declare(name, durable=chance.random() < 0.5)
    for _ in range(22):
        source = chance.choice(exchanges)
        kind = topology.exchanges[source][0]
        length = chance.randrange(1, 4)
        key = ".".join(chance.choice(WORDS + (["*", "#"] * 2 if kind == "topic" else [])) for _ in range(length))
        arguments = {}
        if kind == "headers":
            arguments = {name: chance.choice(VALUES) for name in chance.sample(NAMES, chance.randrange(3))}
            mode = chance.choice(["all", "any", "all-with-x", "any-with-x", None])
            if mode:
                arguments["x-match"] = mode
        is_queue = chance.random() < 0.7
        bound = chance.choice(queues if is_queue else exchanges)
        if is_queue:
            channel.queue_bind(bound, source, key, arguments)
        else:
            channel.exchange_bind(bound, source, key, arguments)
        topology.bindings.append(
            {"source": source, "target": bound, "is_queue": is_queue, "key": key, "arguments": arguments}
        )
    return topology, exchanges, queues


@case("pika/random_topologies")
def random_topologies(target):
    connection, channel = channel_of(target)
    returned = []
    channel.add_on_return_callback(lambda c, m, p, body: returned.append(body))
    for number in range(8):
        chance = random.Random(4711 + number)
        topology, exchanges, queues = build(target, channel, chance, number)
        expected, unroutable = {queue: [] for queue in queues}, []
        for i in range(120):
            exchange = chance.choice(exchanges)
            key = ".".join(chance.choice(WORDS) for _ in range(chance.randrange(1, 4)))
            headers = {name: chance.choice(VALUES) for name in chance.sample(NAMES, chance.randrange(4))}
            keys = [key]
            for copies in ("CC", "BCC"):
                if chance.random() < 0.1:
                    more = [".".join(chance.choice(WORDS) for _ in range(2))]
                    headers[copies] = more
                    keys += more
            body = str(i).encode()
            reached = topology.routes(exchange, keys, headers)
            for queue in reached:
                expected[queue].append(body)
            if not reached:
                unroutable.append(body)
            channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers), mandatory=True)
        for queue in queues:
            wait_for(
                lambda: channel.queue_declare(queue, passive=True).method.message_count >= len(expected[queue]),
                f"{queue} has what is for it",
            )
            got = []
            while True:
                method, _, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    break
                got.append(body)
            equal(got, expected[queue], f"topology {number}: {queue}")
        wait_for(lambda: connection.process_data_events(0.05) or len(returned) >= len(unroutable), "returns")
        equal(returned, unroutable, f"topology {number}: returned")
        returned.clear()
        for name in queues:
            channel.queue_delete(name)
        for name in exchanges:
            channel.exchange_delete(name)
    connection.close()


@case("pika/x_match_is_checked")
def x_match_is_checked(target):
    connection, channel = channel_of(target)
    exchange, queue = target.name("e"), target.name("q")
    channel.exchange_declare(exchange, "headers", durable=True)
    channel.queue_declare(queue, durable=True)
    for wrong, text in (
        ("most", "Invalid x-match field value <<\"most\">>; expected all, any, all-with-x, or any-with-x"),
        (1, "Invalid x-match field type"),
    ):
        try:
            channel.queue_bind(queue, exchange, "", {"x-match": wrong})
            true(False, "a bind with such an x-match is refused")
        except exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, "reply code")
            true(text in closed.reply_text, f"{closed.reply_text!r} names what is wrong: {text!r}")
        channel = connection.channel()
    for mode in ("all", "any", "all-with-x", "any-with-x"):
        channel.queue_bind(queue, exchange, "", {"x-match": mode, "h": mode})
    # Other types of exchange don't care.
    channel.exchange_bind(exchange, "amq.fanout", "", {"x-match": "most"})
    channel.exchange_unbind(exchange, "amq.fanout", "", {"x-match": "most"})
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    connection.close()
