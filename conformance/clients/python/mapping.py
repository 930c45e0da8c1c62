"""Mapping rules, path templates and the catch-all topic. Each case has a gateway with settings of its own."""

import time

import pika
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from pika import exceptions

from amqp_pika import channel_of, connect
from crossing import Amqp
from harness import case, equal, true, wait_for
from kafka_confluent import admin, consumer, create, produce_all, producer
from mqtt_paho import V4, V5, Peer
from tables import becomes

NO_MATCHING_SUBSCRIBERS = 0x10


def log(target, topic, count=None, within=10.0):
    """All records of a topic, or as many as there must be, by partition: [(key, value)]."""
    c = consumer(target, "nobody", **{"fetch.wait.max.ms": 10})
    found = {}
    deadline = time.monotonic() + within
    try:
        while True:
            found = {}
            known = c.list_topics(topic, timeout=10).topics[topic]
            for number in known.partitions if known.error is None else ():
                low, high = c.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
                c.assign([TopicPartition(topic, number, low)])
                records = found.setdefault(number, [])
                while len(records) < high - low:
                    message = c.poll(5)
                    true(message is not None and message.error() is None, f"reading {topic}: {message}")
                    records.append((message.key(), message.value()))
            if count is None or sum(map(len, found.values())) >= count or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        c.close()
    if count is not None:
        equal(sum(map(len, found.values())), count, f"records of {topic}")
    return found


def rows(target, topic, count=None):
    """The same of a topic with one partition, or of all of them in any order."""
    found = log(target, topic, count)
    flat = [record for records in found.values() for record in records]
    return flat if len(found) <= 1 else sorted(flat)


def topics(target):
    return set(admin(target).list_topics(timeout=10).topics)


def partitions(target, topic):
    return len(admin(target).list_topics(topic, timeout=10).topics[topic].partitions)


def setting(target, topic, name):
    client = admin(target)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    return client.describe_configs([resource])[resource].result(timeout=10)[name].value


def template(target, topic):
    return setting(target, topic, "omnilog.path.template")


def refused(act, *parts):
    try:
        act()
    except KafkaException as error:
        text = str(error)
        for part in parts:
            true(part in text, f"{part!r} in {text!r}")
        return
    raise AssertionError(f"not refused: {parts}")


def answer(peer, topic, payload, qos):
    """The reason code of the packet that answers a publish."""
    info = peer.client.publish(topic, payload, qos)
    info.wait_for_publish(10)
    wait_for(lambda: info.mid in peer.answers, "the answer")
    return peer.answers[info.mid].value


def kafka(target, topic, *records):
    produce_all(producer(target), [(key, value, None) for key, value in records], topic)


def taken(peer, count):
    return sorted((m.topic, m.payload) for m in peer.take(count))


def got(amqp, count):
    return sorted((m.exchange, m.routing_key, body) for m, _, body in amqp.read(count))


def confirming(target, user=None):
    credentials = {"credentials": pika.PlainCredentials(user, user)} if user else {}
    connection = connect(target, **credentials)
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


@case("mapping/rules")
def rules(target):
    """A rule says topic and key; what a Kafka client writes under such a key comes to the rule's paths."""
    again = target.phase == 2
    turn = b"turn %d" % target.phase
    mqtt = Peer(target, version=V5)
    mqtt.subscribe(("sensors/#", 1), ("plant/#", 1), ("shop/#", 1))
    amqp, shop = Amqp(target), Amqp(target)
    amqp.bind("amq.topic", "sensors.*.temp.#").bind("amq.topic", "plant.#")
    shop.channel.exchange_declare("shop", "topic", durable=True)
    shop.bind("shop", "*.orders.#")
    writer = Peer(target, version=V4)

    # In: by MQTT, by amq.topic and by an exchange; which rule is the first that matches, and what none does.
    writer.publish("sensors/k7/temp/in/left", turn, 1)
    writer.publish("sensors/k7/temp", turn, 2)
    writer.publish("plant/a/alarms/fire", turn, 0)
    writer.publish("plant/a/alarms/fire/loud", turn, 1)
    writer.publish("plant", turn, 1)
    writer.publish("sensors/k7/hum", turn, 1)
    writer.publish("shop/berlin/orders/new", turn, 1)
    writer.publish("$delayed/1/sensors/k7/temp/late", turn, 1)
    dying = Peer(target, will={"topic": "sensors/k7/temp/will", "payload": turn, "qos": 1})
    dying.cut()
    connection, channel = confirming(target)
    channel.basic_publish("amq.topic", "sensors.k8.temp.out", turn)
    channel.basic_publish("amq.topic", "plant.b/c.alarms.fire", turn)
    channel.basic_publish("shop", "berlin.orders.new.big", turn)
    channel.basic_publish("shop", "berlin.visits", turn)
    transaction = connection.channel()
    transaction.tx_select()
    transaction.basic_publish("shop", "rome.orders", turn)
    transaction.tx_commit()
    # Addressed to a queue: no rule's path, though filters that name it have it, too.
    task = channel.queue_declare("plant", exclusive=True).method.queue
    channel.basic_publish("", task, turn)
    channel.queue_delete(task)
    expected = {
        "temps": [(b"k7", turn), (b"k7/in/left", turn), (b"k7/late", turn), (b"k7/will", turn), (b"k8/out", turn)],
        "alarms": [(b"fire/a", turn), (b"fire/b%2Fc", turn)],
        "plants": [(None, turn), (b"a/alarms/fire/loud", turn)],
        "sensors": [(b"k7/hum", turn)],
        "shop-orders": [(b"berlin/new", turn), (b"berlin/new/big", turn), (b"rome", turn)],
        "shop": [(b"berlin/visits", turn)],
    }
    got_here = taken(mqtt, 15)
    for topic, wanted in expected.items():
        of_this = [r for r in rows(target, topic) if r[1] == turn]
        equal(sorted(of_this, key=lambda r: r[0] or b""), wanted, f"records of {topic}")
    true("plant" not in topics(target), "a rule's paths make no topic of their first level")
    equal(partitions(target, "temps"), 4, "the rule's partitions")
    equal(template(target, "temps"), "sensors/{1}/temp/{rest}", "the template of the rule's topic")
    equal(template(target, "alarms"), "plant/{2}/alarms/{1}", "with levels in another order")
    equal(template(target, "sensors"), "sensors/{rest}", "the default one")
    # Where a record is kept changes nothing of who gets it.
    equal(got_here, sorted([
        ("sensors/k7/temp/late", turn), ("sensors/k7/temp/will", turn), ("sensors/k7/temp/in/left", turn), ("sensors/k7/temp", turn), ("plant/a/alarms/fire", turn),
        ("plant/a/alarms/fire/loud", turn), ("plant", turn), ("plant", turn), ("sensors/k7/hum", turn),
        ("shop/berlin/orders/new", turn), ("sensors/k8/temp/out", turn), ("plant/b%2Fc/alarms/fire", turn),
        ("shop/berlin/orders/new/big", turn), ("shop/berlin/visits", turn), ("shop/rome/orders", turn),
    ]), "what MQTT clients get")
    equal(got(amqp, 9), sorted(("amq.topic", key, turn) for key in (
        "sensors.k7.temp.in.left", "sensors.k7.temp", "sensors.k8.temp.out", "plant", "plant.a.alarms.fire",
        "plant.a.alarms.fire.loud", "plant.b/c.alarms.fire", "sensors.k7.temp.late", "sensors.k7.temp.will",
    )), "what bindings of amq.topic get")
    equal(got(shop, 3), sorted(("shop", key, turn) for key in (
        "berlin.orders.new", "berlin.orders.new.big", "rome.orders",
    )), "what bindings of the exchange get")

    # A rule's topic is bounded like any that publishing made, until CreateTopics takes it over.
    if not again:
        true(int(setting(target, "alarms", "retention.bytes")) > 0, "a bounded window")
        create(target, "alarms", 2, {"retention.ms": "3600000"})
        equal(setting(target, "alarms", "retention.bytes"), "-1", "retention.bytes of a Kafka client's topic")
        refused(lambda: create(target, "plants", 1, {"omnilog.path.template": "plants/{rest}"}), "plant/{rest}")
    equal(setting(target, "alarms", "retention.ms"), "3600000", "retention.ms")
    equal(partitions(target, "alarms"), 2, "the partitions it was given")
    equal(template(target, "alarms"), "plant/{2}/alarms/{1}", "its template stays")

    # Out: what Kafka clients write there has the rule's paths, and to topics' names nothing is bound.
    named = Amqp(target, "temps")
    kafka(target, "temps", (b"k9/in", b"1"), (b"k9", b"2"), (b"k9/a.b", b"3"))
    kafka(target, "alarms", (b"smoke/c", b"4"))
    kafka(target, "shop-orders", (b"oslo/new", b"5"), (b"oslo", b"6"))
    kafka(target, "plants", (None, b"7"))
    # Levels that a template lacks: the default path, below the topic's own name.
    kafka(target, "alarms", (b"smoke", b"8"))
    lost = Peer(target)
    lost.subscribe(("temps/#", 1), ("shop-orders/#", 1))
    equal(taken(mqtt, 7), sorted([
        ("sensors/k9/temp/in", b"1"), ("sensors/k9/temp", b"2"), ("sensors/k9/temp/a.b", b"3"),
        ("plant/c/alarms/smoke", b"4"), ("shop/oslo/orders/new", b"5"), ("shop/oslo/orders", b"6"), ("plant", b"7"),
    ]), "what MQTT clients get of Kafka's")
    equal(got(amqp, 5), sorted([
        ("amq.topic", "sensors.k9.temp.in", b"1"), ("amq.topic", "sensors.k9.temp", b"2"),
        ("amq.topic", "sensors.k9.temp.a%2Eb", b"3"), ("amq.topic", "plant.c.alarms.smoke", b"4"),
        ("amq.topic", "plant", b"7"),
    ]), "what bindings of amq.topic get of Kafka's")
    equal(got(shop, 2), sorted([("shop", "oslo.orders.new", b"5"), ("shop", "oslo.orders", b"6")]),
          "what bindings of the exchange get of Kafka's")
    lost.nothing(0.3, "below the topic's name")
    mqtt.nothing(0.1)
    named.read(0)
    named.channel.queue_delete("temps")
    try:
        named.channel.basic_consume("shop-orders", lambda *_: None)
        raise AssertionError("basic.consume on a rule's topic found a queue")
    except exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "reply code of basic.consume on the topic's name")



@case("mapping/rules_changed")
def rules_changed(target):
    """Another topic in a rule counts for what comes; what is there keeps its paths."""
    mqtt = Peer(target, client_id="reader", version=V5, clean=target.phase == 1, expiry=600)
    writer = Peer(target)
    if target.phase == 1:
        mqtt.subscribe(("sensors/#", 1), ("shop/#", 1))
        for path in ("sensors/k7/temp/in", "sensors/k7/hum", "shop/berlin/orders/new"):
            writer.publish(path, b"before", 1)
        equal(len(mqtt.take(3)), 3, "messages")
        equal(rows(target, "temps", 1), [(b"k7/in", b"before")], "where the rule says")
        mqtt.close()
        # What is written while the reader is away waits for it, with the path of its own time.
        kafka(target, "temps", (b"k7/away", b"before"))
        return
    writer.publish("sensors/k7/temp/in", b"after", 1)
    writer.publish("shop/berlin/orders/new", b"after", 1)
    equal(rows(target, "temps", 2), [(b"k7/away", b"before"), (b"k7/in", b"before")], "what was there")
    equal(rows(target, "warmth"), [(b"k7/in", b"after")], "where the new rule says")
    equal(rows(target, "shop-orders"), [(b"berlin/new", b"before")], "without a rule nothing comes any more")
    equal(rows(target, "shop"), [(b"berlin/orders/new", b"after")], "but to the first level's topic")
    # The old topic has its template for ever; two topics may have the same paths now.
    equal(template(target, "temps"), "sensors/{1}/temp/{rest}", "the old topic's template")
    kafka(target, "temps", (b"k8/x", b"old topic"))
    kafka(target, "warmth", (b"k8/x", b"new topic"))
    kafka(target, "shop-orders", (b"oslo/new", b"old topic"))
    equal(taken(mqtt, 6), sorted([
        ("sensors/k7/temp/away", b"before"), ("sensors/k7/temp/in", b"after"), ("shop/berlin/orders/new", b"after"),
        ("sensors/k8/temp/x", b"old topic"), ("sensors/k8/temp/x", b"new topic"), ("shop/oslo/orders/new", b"old topic"),
    ]), "what the reader gets")
    mqtt.nothing(0.2)


@case("mapping/templates")
def templates(target):
    """A template that CreateTopics gives: which paths a Kafka client's keys have, and which have none of its kind."""
    if target.phase == 1:
        give = {"omnilog.path.template": "site/{2}/line/{1}/{rest}"}
        create(target, "lines", 1, give)
        # Its first level is a placeholder; topics.expose names the one and not the other.
        for topic in ("by-area", "by-user"):
            create(target, topic, 1, {"omnilog.path.template": "{1}/measured/{2}"})
        create(target, "values", 1, {"omnilog.path.template": "state/{1}", "omnilog.retain": "latest"})
        for wrong, said in (
            ("a/{1}/{1}", "twice"), ("a/{2}", "{1} is missing"), ("a/+", "wildcards"), ("$a/{rest}", "'$'"),
            ("a/x{1}", "placeholder"), ("{first}", "placeholder"), ("a/{rest}/{rest}", "twice"), ("", "empty"),
        ):
            refused(lambda text=wrong: create(target, "wrong", 1, {"omnilog.path.template": text}), "INVALID_CONFIG",
                    said)
    for topic, text in (("lines", "site/{2}/line/{1}/{rest}"), ("by-area", "{1}/measured/{2}"),
                        ("values", "state/{1}")):
        equal(template(target, topic), text, f"the template of {topic}")
    entry = ConfigEntry("omnilog.path.template", "lines/{rest}", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "lines", incremental_configs=[entry])
    client = admin(target)
    refused(lambda: client.incremental_alter_configs([resource])[resource].result(timeout=10), "INVALID_CONFIG")

    mqtt = Peer(target, version=V5)
    mqtt.subscribe(("site/#", 1), ("lines/#", 1), ("hall/#", 1), ("by-area/#", 1), ("kitchen/#", 1))
    wide = Peer(target, version=V5)
    wide.subscribe(("+/measured/#", 1))
    root = Amqp(target).bind("amq.topic", "site.#")
    own = Amqp(target)
    own.channel.exchange_declare("site", "topic", durable=True)
    own.bind("site", "*.line.*.#")
    kafka(target, "lines", (b"l1/s1", b"1"), (b"l1/s1/a/b", b"2"), (b"l2/s.2/", b"3"))
    # Keys that it does not fit have the default path: too few levels, none, wildcards, no text.
    kafka(target, "lines", (b"l1", b"4"), (None, b"5"), (b"l1/+/x", b"6"), (b"l1/\xff", b"7"), (b"", b"8"))
    kafka(target, "by-area", (b"hall/t", b"9"), (b"$SYS/t", b"10"))
    kafka(target, "by-user", (b"kitchen/t", b"11"))
    fits = [("site/s1/line/l1", b"1"), ("site/s1/line/l1/a/b", b"2"), ("site/s.2/line/l2/", b"3")]
    got_here = taken(mqtt, 10)
    spelled = [entry for entry in got_here if entry[0].startswith("lines/~b64")]
    equal(sorted(payload for _, payload in spelled), [b"6", b"7"], "keys that no topic can hold")
    equal([entry for entry in got_here if entry not in spelled], sorted(fits + [
        ("lines/l1", b"4"), ("lines", b"5"), ("lines/", b"8"), ("hall/measured/t", b"9"), ("by-area/$SYS/t", b"10"),
    ]), "what MQTT clients get")
    equal(taken(wide, 1), [("hall/measured/t", b"9")], "a wildcard as the first level, of the exposed one")
    wide.nothing(0.2, "of a topic that is not exposed")
    equal(got(root, 3), sorted([
        ("amq.topic", "site.s1.line.l1", b"1"), ("amq.topic", "site.s1.line.l1.a.b", b"2"),
        ("amq.topic", "site.s%2E2.line.l2.", b"3"),
    ]), "amq.topic")
    equal(got(own, 3), sorted([
        ("site", "s1.line.l1", b"1"), ("site", "s1.line.l1.a.b", b"2"), ("site", "s%2E2.line.l2.", b"3"),
    ]), "the exchange of the first level")

    # A template is no rule: what is published to its paths is kept by their first level.
    turn = str(target.phase).encode()
    Peer(target).publish("site/s1/line/l1", b"by mqtt " + turn, 1)
    own.channel.basic_publish("site", "s1.line.l1", b"by amqp " + turn)
    kept = [value for _, value in rows(target, "site") if value.endswith(turn)]
    equal(kept, [b"by mqtt " + turn, b"by amqp " + turn], "records of the first level's topic")
    # Nor does anything published come to a topic with another template by its name.
    Peer(target).publish("lines/x", b"by name", 1)
    true(b"by name" not in [value for _, value in rows(target, "lines")], "kept under a key with another path")

    # A table's retained messages have the template's paths.
    kafka(target, "values", (b"pump", turn), (b"valve", turn), (b"valve", None))
    becomes(target, "state/#", {"state/pump": turn}, "retained by the template's path")


@case("mapping/catch_all")
def catch_all(target):
    """Paths of many devices in one topic of four partitions: each device's in order, in one of them."""
    again = target.phase == 2
    turn = str(target.phase)
    reader = Peer(target, version=V5)
    reader.subscribe(("#", 1))
    devices = [f"device{turn}-{number}" for number in range(12)]
    # The user's two names. After the restart they are still counted. With fewer in flight paho sends QoS 0 ahead.
    writer = Peer(target, version=V5, user="guest", inflight=600)
    for name in ("first", "second"):
        equal(answer(writer, f"{name}/x", turn, 1), 0, "the answer to a name of its own")
    # As fast as it goes, so that many are gathered in one batch.
    sent = []
    for round in range(40):
        for device in devices:
            path = f"{device}/{'up' if round % 2 else 'down'}/v"
            sent.append((path, f"{turn} {round}".encode()))
            last = writer.client.publish(*sent[-1], qos=(round + 1) % 3)
    last.wait_for_publish(15)
    found = log(target, "everything")
    homes = {}
    for number, records in found.items():
        for key, value in records:
            device, mine = key.decode().split("/")[0], value.startswith(turn.encode())
            if mine and device in devices:
                homes.setdefault(device, {}).setdefault(number, []).append((key.decode(), value))
    equal(sorted(homes), sorted(devices), "devices")
    for device, by_partition in homes.items():
        equal(list(by_partition.values()), [[s for s in sent if s[0].startswith(device + "/")]],
              f"{device}'s records are in one partition, in order, with their whole paths as keys")
    true(len({next(iter(home)) for home in homes.values()}) > 1, "the devices are spread over partitions")
    equal(partitions(target, "everything"), 4, "partitions")
    equal(template(target, "everything"), "{rest}", "the template")
    true(not topics(target) & set(devices), "no device has a topic")
    # Who gets a message does not depend on where it is kept.
    by_device = {}
    for message in reader.take(482, within=20):
        by_device.setdefault(message.topic.split("/")[0], []).append((message.topic, message.qos, message.payload))
    for device in devices:
        for qos in (0, 1):
            wanted = [s for round, s in enumerate(s for s in sent if s[0].startswith(device + "/"))
                      if min((round + 1) % 3, 1) == qos]
            equal([(t, p) for t, q, p in by_device[device] if q == qos], wanted, f"{device} by MQTT, QoS {qos}")

    # What publishers hear beyond the cap is what they would hear otherwise, in each protocol.
    more = f"more{turn}"
    equal(answer(writer, f"{more}/x", b"qos 1", 1), 0, "MQTT 5, QoS 1")
    equal(answer(writer, f"{more}/x", b"qos 2", 2), 0, "MQTT 5, QoS 2")
    connection, channel = confirming(target, "guest")
    channel.basic_publish("amq.topic", f"{more}.amqp", b"confirmed")
    # An empty first level, and one that no Kafka topic can be called; never what has no log by its name.
    long = "n" * 250
    unlogged = ("$private/x", "secret7/x", "amq.x/y")
    for path in (f"/{more}/b", f"{long}/{more}", *unlogged):
        writer.publish(path, path, 1)
    caught = [(key.decode(), value) for key, value in rows(target, "everything")]
    equal([record for record in caught if more in record[0]], sorted([
        (f"{more}/x", b"qos 1"), (f"{more}/x", b"qos 2"), (f"{more}/amqp", b"confirmed"),
        (f"/{more}/b", f"/{more}/b".encode()), (f"{long}/{more}", f"{long}/{more}".encode()),
    ]), "what was caught")
    true(not [key for key, _ in caught if key in unlogged], "what has no log is not caught")
    equal(len(taken(reader, 7)), 7, "all but what begins with '$' comes to a wildcard")

    # Another user has names of its own to make; what an exchange or a queue is called belongs to nobody.
    ann = Peer(target, user="ann", version=V5)
    equal(answer(ann, "anns/x", turn, 1), 0, "the answer to another user")
    true("anns" in topics(target), "another user's name has its topic")
    channel.exchange_declare("declared", "topic", durable=True)
    writer.publish("declared/x", turn, 1)
    channel.queue_declare("waiting", durable=True)
    writer.publish("waiting/x", turn, 1)
    for topic in ("declared", "waiting", "anns"):
        true((b"x", turn.encode()) in rows(target, topic), f"{topic} has its own log")

    # What Kafka clients write there has the key as its path, here with topics.expose.
    reader.take(3)
    kafka(target, "everything", (f"{devices[3]}/cmd", b"from kafka"))
    equal(taken(reader, 1), [(f"{devices[3]}/cmd", b"from kafka")], "a Kafka record's path")
    direct = Amqp(target).bind("amq.topic", f"{devices[3]}.#")
    time.sleep(0.2)
    kafka(target, "everything", (f"{devices[3]}/cmd", b"again"))
    equal(got(direct, 1), [("amq.topic", f"{devices[3]}.cmd", b"again")], "and its routing key")
    reader.take(1)

    # Created: the first level's own log from now on, its paths the same. Deleted: room for another name.
    own = devices[1]
    create(target, own, 3)
    writer.publish(f"{own}/up/v", b"own", 1)
    equal(rows(target, own, 1), [(b"up/v", b"own")], "a topic of its own")
    equal(taken(reader, 1), [(f"{own}/up/v", b"own")], "at the same path")
    client = admin(target)
    gone, name = ("third", "fourth") if again else ("second", "third")
    client.delete_topics([gone])[gone].result(timeout=10)
    writer.publish(f"{name}/x", turn, 1)
    equal(rows(target, name, 1), [(b"x", turn.encode())], "room for another name")
    connection.close()


@case("mapping/catch_all_by_rate")
def catch_all_by_rate(target):
    """Names beyond so many in a second are caught, and have their own logs when there is time."""
    writer = Peer(target, version=V5)
    names = [f"n{number}" for number in range(30)]
    for name in names:
        equal(answer(writer, f"{name}/x", b"1", 1), NO_MATCHING_SUBSCRIBERS, "the answer")
    known = topics(target)
    own = [name for name in names if name in known]
    true(3 <= len(own) < 30, f"{own} have their own")
    caught = rows(target, "everything")
    equal(sorted(key for key, _ in caught), sorted(f"{name}/x".encode() for name in names if name not in own),
          "the others were caught")
    left = next(name for name in names if name not in own)
    wait_for(lambda: writer.publish(f"{left}/x", b"2", 1) or left in topics(target), "a log of its own",
             step=lambda: time.sleep(0.4))
    equal(rows(target, left)[-1], (b"x", b"2"), "its record")


@case("mapping/without_catch_all")
def without_catch_all(target):
    """Beyond the limit there is no log, and everybody but Kafka's readers has the message all the same."""
    writer, session = Peer(target, version=V5), Peer(target, client_id="s", version=V5, clean=False, expiry=600)
    session.subscribe(("#", 1))
    queue = Amqp(target).bind("amq.topic", "#")
    for name in ("first", "second"):
        writer.publish(f"{name}/x", name, 1, retain=True)
        equal(answer(writer, f"{name}/x", name, 2), 0, "the answer")
    equal(rows(target, "first", 2), [(b"x", b"first")] * 2, "the first name's log")
    true("second" not in topics(target), "the second has none")
    equal(taken(session, 4), [("first/x", b"first")] * 2 + [("second/x", b"second")] * 2, "the session")
    equal(got(queue, 4), [("amq.topic", "first.x", b"first")] * 2 + [("amq.topic", "second.x", b"second")] * 2,
          "the queue")
    becomes(target, "second/#", {"second/x": b"second"}, "the retained message")
    connection, channel = confirming(target)
    channel.basic_publish("amq.topic", "third.x", b"confirmed")
    equal(taken(session, 1), [("third/x", b"confirmed")], "AMQP's")
    connection.close()
