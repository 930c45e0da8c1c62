"""paho-mqtt, both protocol versions."""

import queue
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from harness import case, equal, true, wait_for

V4, V5 = mqtt.MQTTv311, mqtt.MQTTv5


class Peer:
    """A client whose messages wait in a queue."""

    def __init__(self, target, client_id="", version=V4, clean=True, expiry=0, will=None, keepalive=60,
                 user=None, inflight=20):
        kind = {"clean_session": clean} if version != V5 else {}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **kind
        )
        self.client.max_inflight_messages_set(inflight)
        self.version = version
        self.messages = queue.Queue()
        self.connected, self.gone = threading.Event(), threading.Event()
        self.session_present = None
        self.reason = None
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.suback = queue.Queue()
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.suback.put(codes)
        self.client.on_unsubscribe = lambda _c, _u, _m, codes, _p: self.suback.put(codes)
        # What each publish was answered with, by its number.
        self.answers = {}
        self.client.on_publish = lambda _c, _u, mid, reason, _p: self.answers.update({mid: reason})
        if user:
            self.client.username_pw_set(user, user)
        if will:
            self.client.will_set(**will)
        host, port = target.mqtt
        if version == V5:
            properties = Properties(PacketTypes.CONNECT)
            if expiry:
                properties.SessionExpiryInterval = expiry
            self.client.connect(host, port, keepalive, clean_start=clean, properties=properties)
        else:
            self.client.connect(host, port, keepalive)
        self.client.loop_start()
        true(self.connected.wait(10), "no CONNACK")

    def _on_connect(self, _client, _user, flags, reason, _properties):
        self.session_present = flags.session_present
        self.reason = reason
        self.connected.set()

    def _on_disconnect(self, _client, _user, _flags, reason, _properties):
        self.gone_reason = reason
        self.gone.set()

    def subscribe(self, *filters, **options):
        if options:
            wanted = [(f, SubscribeOptions(qos=q, **options)) for f, q in filters]
        else:
            wanted = list(filters)
        self.client.subscribe(wanted)
        return self.suback.get(timeout=10)

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        info = self.client.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(10)
        true(info.is_published(), f"publish to {topic} was not acknowledged")

    def take(self, count, within=10.0):
        got = []
        deadline = time.monotonic() + within
        while len(got) < count:
            try:
                got.append(self.messages.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(
                    f"only {len(got)} of {count} messages: {[(m.topic, m.payload[:20]) for m in got][-3:]}"
                ) from None
        return got

    def nothing(self, for_s=0.4, what="no message"):
        try:
            message = self.messages.get(timeout=for_s)
        except queue.Empty:
            return
        raise AssertionError(f"{what}: got {message.payload[:40]!r} on {message.topic}")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def cut(self):
        """Ends the connection without DISCONNECT."""
        import socket

        # paho would connect again by itself.
        self.client._reconnect_on_failure = False
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()


def both(function):
    """A case for each protocol version."""
    name = function.__name__
    case(f"paho/{name}_v311")(lambda target: function(target, V4))
    case(f"paho/{name}_v5")(lambda target: function(target, V5))
    return function


@both
def qos(target, version):
    topic = target.name("t") + "/a"
    sub, pub = Peer(target, version=version), Peer(target, version=version)
    codes = sub.subscribe((topic, 2))
    equal([c.value for c in codes], [2], "granted")
    for level in (0, 1, 2):
        for i in range(50):
            pub.publish(topic, f"{level} {i}", level)
    got = sub.take(150)
    for level in (0, 1, 2):
        equal([m.payload.decode() for m in got if m.qos == level], [f"{level} {i}" for i in range(50)],
              f"QoS {level} in order")
    sub.nothing()
    low = Peer(target, version=version)
    low.subscribe((topic, 1))
    pub.publish(topic, "x", 2)
    equal(low.take(1)[0].qos, 1, "QoS is the lower of both")
    for peer in (sub, pub, low):
        peer.close()


@both
def wildcards(target, version):
    root = target.name("w")
    pub = Peer(target, version=version)
    topics = [f"{root}/{t}" for t in ("a", "a/b", "a/b/c", "x/b", "/b", "a/", "$q")] + [root]
    wants = {
        f"{root}/+": {"a", "$q"},
        f"{root}/+/b": {"a/b", "x/b", "/b"},
        f"{root}/a/#": {"a", "a/b", "a/b/c", "a/"},
        f"{root}/#": {"a", "a/b", "a/b/c", "x/b", "/b", "a/", "$q", None},
        f"{root}/a/+": {"a/b", "a/"},
        f"{root}/a/b": {"a/b"},
    }
    peers = {f: Peer(target, version=version) for f in wants}
    for pattern, peer in peers.items():
        peer.subscribe((pattern, 1))
    for topic in topics:
        pub.publish(topic, topic, 1)
    for pattern, wanted in wants.items():
        got = {m.topic for m in peers[pattern].take(len(wanted))}
        equal(got, {root if t is None else f"{root}/{t}" for t in wanted}, pattern)
        peers[pattern].nothing(0.1, pattern)
        peers[pattern].close()
    dollar = Peer(target, version=version)
    dollar.subscribe(("#", 0), ("+/x", 0))
    pub.publish(f"$private/{root}", "x")
    dollar_topics = set()
    time.sleep(0.3)
    while not dollar.messages.empty():
        dollar_topics.add(dollar.messages.get().topic)
    true(not any(t.startswith("$") for t in dollar_topics), f"# doesn't see $: {dollar_topics}")
    dollar.close()
    pub.close()


@both
def retained(target, version):
    root = target.name("r")
    pub = Peer(target, version=version)
    pub.publish(f"{root}/a", "old", 1, True)
    pub.publish(f"{root}/a", "new", 1, True)
    pub.publish(f"{root}/b", "b", 0, True)
    pub.publish(f"{root}/c", "passing", 1)
    time.sleep(0.2)
    sub = Peer(target, version=version)
    sub.subscribe((f"{root}/#", 1))
    got = sorted(sub.take(2), key=lambda m: m.topic)
    equal([(m.topic, m.payload, m.retain) for m in got],
          [(f"{root}/a", b"new", True), (f"{root}/b", b"b", True)], "retained messages")
    sub.nothing()
    pub.publish(f"{root}/a", "live", 1, True)
    equal(sub.take(1)[0].retain, False, "retain flag of a live message")
    pub.publish(f"{root}/a", "", 1, True)
    sub.take(1)
    late = Peer(target, version=version)
    late.subscribe((f"{root}/+", 1))
    equal([m.topic for m in late.take(1)], [f"{root}/b"], "after an empty retained message")
    late.nothing()
    pub.publish(f"{root}/b", "", 1, True)
    for peer in (pub, sub, late):
        peer.close()


@both
def will(target, version):
    topic = target.name("will") + "/x"
    sub = Peer(target, version=version)
    sub.subscribe((topic, 1))
    setting = {"topic": topic, "payload": "gone", "qos": 1}
    polite = Peer(target, version=version, will=setting)
    polite.close()
    sub.nothing(0.6, "a will after DISCONNECT")
    rude = Peer(target, version=version, will=setting)
    rude.cut()
    equal(sub.take(1)[0].payload, b"gone", "the will")
    sub.close()


@both
def persistent_session(target, version):
    topic, me = target.name("s") + "/x", target.name("client")
    stay = {"client_id": me, "version": version, "clean": False, "expiry": 300}
    pub = Peer(target, version=version)
    sub = Peer(target, **stay)
    equal(sub.session_present, False, "session present at first")
    sub.subscribe((topic, 2))
    sub.close()
    for i in range(20):
        pub.publish(topic, str(i), 1 + i % 2)
    sub = Peer(target, **stay)
    equal(sub.session_present, True, "session present")
    got = sub.take(20)
    for level in (1, 2):
        want = [str(i).encode() for i in range(20) if 1 + i % 2 == level]
        equal([m.payload for m in got if m.qos == level], want, f"offline messages of QoS {level}")
    pub.publish(topic, "live", 1)
    equal(sub.take(1)[0].payload, b"live", "the subscription is there")
    sub.close()
    fresh = Peer(target, client_id=me, version=version, clean=True)
    equal(fresh.session_present, False, "session present after a clean start")
    pub.publish(topic, "nobody", 1)
    fresh.nothing(0.3, "a clean session has no subscriptions")
    fresh.close()
    pub.close()


@both
def takeover(target, version):
    me = target.name("client")
    first = Peer(target, client_id=me, version=version)
    first.client._reconnect_on_failure = False
    second = Peer(target, client_id=me, version=version)
    true(first.gone.wait(10), "the first connection is ended")
    if version == V5:
        equal(first.gone_reason.value, 142, "reason: session taken over")
    topic = target.name("t")
    second.subscribe((topic, 1))
    second.publish(topic, "x", 1)
    second.take(1)
    second.close()


@both
def large_payload(target, version):
    topic = target.name("t")
    peer = Peer(target, version=version)
    peer.subscribe((topic, 2))
    body = bytes(range(256)) * 3000
    for level in (0, 1, 2):
        peer.publish(topic, body, level)
    true(all(m.payload == body for m in peer.take(3)), "payload byte for byte")
    peer.publish(topic, b"", 1)
    equal(peer.take(1)[0].payload, b"", "an empty payload")
    peer.close()


@both
def unsubscribe(target, version):
    topic = target.name("t")
    peer = Peer(target, version=version)
    peer.subscribe((topic, 1), (topic + "/#", 1))
    peer.publish(topic + "/a", "1", 1)
    peer.take(1)
    peer.client.unsubscribe([topic, topic + "/#"])
    peer.suback.get(timeout=10)
    peer.publish(topic + "/a", "2", 1)
    peer.nothing()
    peer.close()


@case("paho/session_survives_restart")
def session_survives_restart(target):
    root, me = target.name("s"), target.name("client")
    if target.phase == 1:
        sub = Peer(target, client_id=me, clean=False)
        sub.subscribe((f"{root}/#", 2))
        sub.close()
        pub = Peer(target)
        for i in range(30):
            pub.publish(f"{root}/{i}", str(i), 1 + i % 2)
        pub.publish(f"{root}/kept", "kept", 1, True)
        pub.close()
        return
    sub = Peer(target, client_id=me, clean=False)
    equal(sub.session_present, True, "session present after the restart")
    got = sub.take(31)
    equal(sorted(m.payload for m in got), sorted([str(i).encode() for i in range(30)] + [b"kept"]), "messages")
    sub.nothing(0.3, "each once")
    late = Peer(target)
    late.subscribe((f"{root}/+", 1))
    equal([(m.payload, m.retain) for m in late.take(1)], [(b"kept", True)], "retained after the restart")


@case("paho/v5_properties")
def v5_properties(target):
    topic = target.name("t")
    peer = Peer(target, version=V5)
    peer.subscribe((topic, 1))
    sent = Properties(PacketTypes.PUBLISH)
    sent.PayloadFormatIndicator = 1
    sent.ContentType = "text/plain"
    sent.ResponseTopic = "reply/here"
    sent.CorrelationData = b"\x00\xff"
    sent.MessageExpiryInterval = 300
    sent.UserProperty = [("a", "1"), ("a", "2"), ("b", "")]
    peer.publish(topic, "x", 1, properties=sent)
    got = peer.take(1)[0].properties
    for name in ("PayloadFormatIndicator", "ContentType", "ResponseTopic", "CorrelationData", "UserProperty"):
        equal(getattr(got, name), getattr(sent, name), name)
    true(290 <= got.MessageExpiryInterval <= 300, f"expiry left {got.MessageExpiryInterval}")
    peer.close()


@case("paho/v5_subscription_options")
def v5_subscription_options(target):
    topic = target.name("t")
    peer, pub = Peer(target, version=V5), Peer(target, version=V5)
    peer.subscribe((topic, 1), noLocal=True, retainAsPublished=True)
    peer.publish(topic, "own", 1)
    pub.publish(topic, "other", 1, True)
    got = peer.take(1)[0]
    equal((got.payload, got.retain), (b"other", True), "no local, retain as published")
    peer.nothing()
    late = Peer(target, version=V5)
    late.subscribe((topic, 1), retainHandling=2)
    late.nothing(0.3, "retain handling 2")
    identified = Peer(target, version=V5)
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 42
    identified.client.subscribe(topic, 1, properties=properties)
    identified.suback.get(timeout=10)
    equal(identified.take(1)[0].properties.SubscriptionIdentifier, [42], "subscription identifier")
    pub.publish(topic, "", 1, True)
    for p in (peer, pub, late, identified):
        p.close()


@case("paho/keep_alive")
def keep_alive(target):
    peer = Peer(target, keepalive=1)
    time.sleep(3)
    true(not peer.gone.is_set(), "a client that pings stays")
    peer.close()


@case("paho/shared_subscription")
def shared_subscription(target):
    topic, group = target.name("t"), target.name("g")
    a, b, pub = (Peer(target, version=V5) for _ in range(3))
    for peer in (a, b):
        peer.subscribe((f"$share/{group}/{topic}", 1))
    for i in range(100):
        pub.publish(topic, str(i), 1)
    wait_for(lambda: a.messages.qsize() + b.messages.qsize() >= 100, "all are delivered")
    time.sleep(0.2)
    got = [m.payload for p in (a, b) for m in p.take(p.messages.qsize())]
    equal(sorted(map(int, got)), list(range(100)), "each once")
    for p in (a, b, pub):
        p.close()


@case("paho/delayed_messages")
def delayed_messages(target):
    topic = target.name("t")
    peer, pub = Peer(target, version=V5), Peer(target, version=V5)
    peer.subscribe((topic, 1))
    began = time.monotonic()
    pub.publish(f"$delayed/2/{topic}", "second", 1)
    pub.publish(f"$delayed/1/{topic}", "first", 2, True)
    pub.publish(f"$delayed/0/{topic}", "at once", 1)
    pub.publish(f"$delayed/soon/{topic}", "no number", 0)
    equal([m.payload for m in peer.take(1)], [b"at once"], "what has no delay")
    peer.nothing()
    equal([m.payload for m in peer.take(2)], [b"first", b"second"], "in the order in which they are due")
    true(time.monotonic() - began >= 2, "not before they are due")
    late = Peer(target, version=V4)
    late.subscribe((topic, 1))
    got = late.take(1)[0]
    equal((got.topic, got.payload, got.retain), (topic, b"first", True), "retained when it was due")
    pub.publish(topic, "", 1, True)
    for p in (peer, pub, late):
        p.close()
