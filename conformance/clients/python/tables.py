"""Kafka topics as MQTT's retained state (`omnilog.retain=latest`)."""

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from harness import case, equal, wait_for
from kafka_confluent import admin, create, produce_all, producer
from kafka_transactions import transactional
from mqtt_paho import V4, V5, Peer

# A key's order is that of its partition, so all who write it must agree on that one. librdkafka's default does not agree
# with the Java client, nor with the partition that an MQTT message of that key goes to.
SAME_PARTITION = {"partitioner": "murmur2_random"}


def table(target, filters, version=V5, for_s=0.3):
    """What a new subscriber gets that is marked as retained, by topic."""
    peer = Peer(target, version=version)
    peer.subscribe((filters, 1))
    got = {}
    while True:
        try:
            message = peer.take(1, within=for_s)[0]
        except AssertionError:
            peer.close()
            return got
        if message.retain:
            got[message.topic] = message.payload


def becomes(target, filters, expected, what):
    wait_for(lambda: table(target, filters) == expected, what)


def retain(target, topic, value):
    entry = ConfigEntry("omnilog.retain", value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    # The client must live until the answer is there.
    client = admin(target)
    client.incremental_alter_configs([resource])[resource].result(timeout=10)


@case("tables/latest_values_are_retained")
def latest_values_are_retained(target):
    topic = target.name("prices")
    after = {f"{topic}/a": b"3", f"{topic}/b/c": b"2", f"{topic}/t": b"yes"}
    if target.phase == 1:
        create(target, topic, 2, {"cleanup.policy": "compact", "omnilog.retain": "latest"})
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        client = admin(target)
        config = client.describe_configs([resource])[resource].result(timeout=10)
        equal(config["omnilog.retain"].value, "latest", "omnilog.retain")
        p = producer(target, **SAME_PARTITION, **{"compression.type": "lz4"})
        written = [("a", b"1"), ("b/c", b"2"), ("d", b"4"), ("a", b"3"), ("d", None), ("e", b"")]
        produce_all(p, [(k, v, None) for k, v in written], topic)
        t = transactional(target, "writer", **SAME_PARTITION)
        for value, commit in ((b"yes", True), (b"no", False)):
            t.begin_transaction()
            t.produce(topic, value, "t")
            t.flush(10)
            t.commit_transaction(15) if commit else t.abort_transaction(15)
        becomes(target, f"{topic}/#", after, "the last committed value of each key")
        equal(table(target, f"{topic}/+/c", V4), {f"{topic}/b/c": b"2"}, "by a filter, MQTT 3.1.1")
        # A session that is away holds what it was sent.
        away = Peer(target, client_id=target.name("away"), version=V5, clean=True, expiry=600)
        away.subscribe((f"{topic}/a", 1))
        equal([(m.payload, m.retain) for m in away.take(1)], [(b"3", True)], "with RETAIN")
        away.close()
        return
    equal(table(target, f"{topic}/#"), after, "the same after the gateway was killed")
    # MQTT's own way goes on: the later one counts, and an empty one deletes the key.
    pub = Peer(target, version=V5)
    pub.publish(f"{topic}/a", b"by mqtt", 1, True)
    pub.publish(f"{topic}/t", b"", 1, True)
    now = {f"{topic}/a": b"by mqtt", f"{topic}/b/c": b"2"}
    equal(table(target, f"{topic}/#"), now, "what an MQTT client retains")
    live = Peer(target, version=V5)
    live.subscribe((f"{topic}/#", 1))
    live.take(2)
    p = producer(target, **SAME_PARTITION)
    produce_all(p, [("a", b"by kafka", None), ("b/c", None, None)], topic)
    got = sorted((m.topic, m.payload, m.retain) for m in live.take(2))
    equal(got, [(f"{topic}/a", b"by kafka", False), (f"{topic}/b/c", b"", False)], "live, without RETAIN")
    becomes(target, f"{topic}/#", {f"{topic}/a": b"by kafka"}, "what Kafka clients write on")
    retain(target, topic, "none")
    equal(table(target, f"{topic}/#"), {}, "without the setting")
    retain(target, topic, "latest")
    becomes(target, f"{topic}/#", {f"{topic}/a": b"by kafka"}, "set again, from the log's start")
