//! MQTT clients: sessions that last and that do not, messages at each QoS both ways, retained ones, wills.

use crate::api::*;
use crate::simulation::facts::SESSION;
use crate::simulation::messages;
use crate::simulation::peer::{Ask, Held, Role};
use crate::simulation::world::World;
use rand::RngExt;

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

fn subscription(filter: &'static str, qos: u8, share: Option<Name>) -> Subscription {
    Subscription {
        filter: name(filter),
        share,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    }
}

const FILTERS: [&str; 5] = ["s/+", "r/#", "c/d", "log/#", "c/#"];

impl World {
    /// The steady session's subscriptions.
    pub(super) fn set_up_session(&mut self, at: usize) {
        let Some(session) = self.peers[at].session else {
            panic!("no session");
        };
        let placed = ["m/#", "p/#", "n0/#", "n1/#", "n2/#", "n3/#"];
        let mut subscriptions = vec![subscription("s/#", 2, None), subscription("log/#", 1, None)];
        subscriptions.push(subscription("window/#", 1, None));
        subscriptions.extend(placed.map(|filter| subscription(filter, 1, None)));
        let subscribe = Subscribe {
            session,
            subscriptions,
        };
        self.ask(at, Ask::Whatever, Command::Subscribe(subscribe));
    }

    fn client_id(&self, at: usize) -> (Name, bool) {
        match self.peers[at].role {
            Role::Mqtt(0) => (name("steady"), true),
            Role::Mqtt(1) => (name("one"), false),
            _ => (name("two"), false),
        }
    }

    pub(super) fn open_session(&mut self, at: usize) {
        let (client_id, steady) = self.client_id(at);
        let lasting = self.peers[at].role != Role::Mqtt(1);
        let expiry = match self.random.random_range(0..3) {
            _ if lasting => SessionExpiry::Never,
            0 => SessionExpiry::AtClose,
            1 => SessionExpiry::AfterMs(self.random.random_range(0..20_000)),
            _ => SessionExpiry::Never,
        };
        let will = (!steady && self.chance(40)).then(|| {
            let publisher = self.peers[at].publisher(6);
            let ids = self.facts.number(publisher, 1);
            let address = Address::Mqtt { topic: name("c/d") };
            Will {
                publish: messages::publish(&ids, 10, self.unix_ms(), &address, &client_id, 1),
                delay_ms: self.random.random_range(0..3000),
                message_expiry_ms: None,
                principal: Name::new(),
            }
        });
        let open = OpenSession {
            client_id,
            clean_start: !lasting && self.chance(30),
            expiry,
            credit: 10,
            will,
        };
        self.peers[at].opening = true;
        self.ask(at, Ask::Session, Command::OpenSession(open));
    }

    pub(super) fn session_opened(&mut self, at: usize, result: Result<Reply, Refusal>) {
        if self.tight && result == Err(Refusal::DiskFull) {
            self.peers[at].opening = false;
            return;
        }
        let Ok(Reply::Session(opened)) = result else {
            panic!("no session: {result:?}");
        };
        let steady = self.client_id(at).1;
        let peer = &mut self.peers[at];
        peer.session = Some(opened.session);
        peer.opening = false;
        if steady {
            let known = self.facts.followed.insert(opened.queue, SESSION);
            assert_eq!(
                known.is_some(),
                opened.present,
                "the session was there, or was not"
            );
        }
        // A message of a session that is gone was sent to nobody.
        if !opened.present {
            self.peers[at].once = None;
            if !steady {
                let subscriptions = vec![subscription("s/+", 2, Some(name("group")))];
                let subscribe = Subscribe {
                    session: opened.session,
                    subscriptions,
                };
                self.ask(at, Ask::Whatever, Command::Subscribe(subscribe));
            }
        }
        for outgoing in opened.outgoing {
            let packet_id = outgoing.packet_id;
            self.peers[at].next_packet = self.peers[at].next_packet.max(packet_id % 60_000 + 1);
            match outgoing.stage {
                OutgoingStage::Publish {
                    queue,
                    entry,
                    qos,
                    message,
                    retained,
                } => {
                    let id = message.as_ref().and_then(messages::delivered);
                    if steady && !retained {
                        self.facts.resumed(queue, entry, id);
                    }
                    self.peers[at].held.push(Held {
                        queue,
                        entry,
                        id,
                        qos,
                        packet_id,
                        stage: 2,
                    });
                    if self.peers[at].draining {
                        self.take_next(at);
                    }
                }
                OutgoingStage::Release => {
                    let session = opened.session;
                    self.tell(
                        at,
                        Command::Step(session, SessionStep::Completed { packet_id }),
                    );
                }
            }
        }
        self.publish_again(at);
    }

    pub(super) fn taken_over(&mut self, at: usize, session: SessionId) {
        let close = CloseSession {
            session,
            expiry: None,
            publish_will: true,
            in_flight: Vec::new(),
        };
        self.peers[at].session = None;
        self.peers[at].held.clear();
        self.ask(at, Ask::Whatever, Command::CloseSession(close));
    }

    pub(super) fn act_mqtt(&mut self, at: usize) {
        let Some(session) = self.peers[at].session else {
            if !self.peers[at].opening {
                self.leave(at);
                self.join(at);
            }
            return;
        };
        let steady = self.client_id(at).1;
        match self.random.random_range(0..32) {
            0..8 => self.publish_mqtt(at),
            // Whoever sends at QoS 2 has its session for itself.
            8..12 if self.peers[at].role != Role::Mqtt(1) => {
                if self.peers[at].once.is_none() {
                    let publisher = self.peers[at].publisher(2);
                    let ids = self.facts.number(publisher, 1);
                    let packet_id = self.peers[at].next_packet;
                    self.peers[at].next_packet = packet_id % 60_000 + 1;
                    self.peers[at].once = Some((packet_id, ids[0], false));
                }
                self.publish_again(at);
            }
            12..20 => self.take_next(at),
            20..22 if !steady => {
                let filter = FILTERS[self.random.random_range(0..FILTERS.len())];
                let share = self.chance(50).then(|| name("group"));
                let qos = self.random.random_range(0..3);
                let subscribe = Subscribe {
                    session,
                    subscriptions: vec![subscription(filter, qos, share)],
                };
                self.ask(at, Ask::Whatever, Command::Subscribe(subscribe));
            }
            22 if !steady => {
                let filter = FILTERS[self.random.random_range(0..FILTERS.len())];
                let share = self.chance(30).then(|| name("group"));
                let unsubscribe = Unsubscribe {
                    session,
                    filters: vec![(name(filter), share)],
                };
                self.ask(at, Ask::Whatever, Command::Unsubscribe(unsubscribe));
            }
            23..26 => self.retain(at),
            26 => {
                let close = CloseSession {
                    session,
                    expiry: None,
                    publish_will: self.chance(50),
                    in_flight: Vec::new(),
                };
                self.ask(at, Ask::Whatever, Command::CloseSession(close));
                self.peers[at].session = None;
                self.leave(at);
                self.join(at);
            }
            28 => self.publish_delayed(at),
            29..31 => self.publish_placed(at),
            27 => {
                self.leave(at);
                self.join(at);
            }
            _ => self.publish_mqtt(at),
        }
    }

    fn publish_mqtt(&mut self, at: usize) {
        let qos = self.random.random_range(0..3u8);
        let publisher = self.peers[at].publisher([3, 4, 7][usize::from(qos)]);
        let topic = ["s/a", "s/b", "c/d"][self.random.random_range(0..3)];
        let ids = self.facts.number(publisher, 1);
        let address = Address::Mqtt { topic: name(topic) };
        let padding = self.padding();
        let client_id = self.client_id(at).0;
        let mut publish =
            messages::publish(&ids, padding, self.unix_ms(), &address, &client_id, qos);
        if qos == 0 {
            publish.wait = Wait::Decided;
            self.tell(at, Command::Publish(publish));
            return;
        }
        let queue = topic.starts_with("s/").then_some(SESSION);
        self.ask(at, Ask::Publish(ids, queue), Command::Publish(publish));
    }

    /// Sends the QoS 2 message that has no answer yet, perhaps not for the first time.
    fn publish_again(&mut self, at: usize) {
        let (Some(session), Some((packet_id, id, received))) =
            (self.peers[at].session, self.peers[at].once)
        else {
            return;
        };
        if received {
            let step = SessionStep::Released { packet_id };
            self.ask(at, Ask::Released(packet_id), Command::Step(session, step));
            return;
        }
        let address = Address::Mqtt {
            topic: name("s/once"),
        };
        let client_id = self.client_id(at).0;
        let mut publish = messages::publish(&[id], 20, self.unix_ms(), &address, &client_id, 2);
        publish.dedupe = Some(Dedupe { session, packet_id });
        self.ask(
            at,
            Ask::PublishOnce(packet_id, id),
            Command::Publish(publish),
        );
    }

    pub(super) fn published_once(
        &mut self,
        at: usize,
        packet: u16,
        id: u64,
        result: &Result<Reply, Refusal>,
    ) {
        match result {
            Ok(Reply::Published(_)) => {
                self.facts.expect(SESSION, &[id]);
                if let Some(once) = &mut self.peers[at].once
                    && once.0 == packet
                    && once.1 == id
                {
                    once.2 = true;
                }
            }
            _ => self.peers[at].once = None,
        }
    }

    pub(super) fn released(&mut self, at: usize, packet: u16) {
        if self.peers[at]
            .once
            .is_some_and(|(of, _, received)| of == packet && received)
        {
            self.peers[at].once = None;
        }
    }

    fn retain(&mut self, at: usize) {
        // Some are set so seldom that their files grow old.
        let topics = ["r/0", "r/1", "r/2", "r/3", "r/4", "r/5"];
        let among = if self.chance(20) { topics.len() } else { 2 };
        let topic = name(topics[self.random.random_range(0..among)]);
        let publisher = self.peers[at].publisher(5);
        let ids = self.facts.number(publisher, 1);
        let address = Address::Mqtt {
            topic: topic.clone(),
        };
        let client_id = self.client_id(at).0;
        let clears = self.chance(20);
        let mut publish = messages::publish(&ids, 10, self.unix_ms(), &address, &client_id, 1);
        publish.records[0].retain = Some(if clears {
            RetainAction::Clear
        } else {
            RetainAction::Set
        });
        let (asked, _) = self.facts.retained.entry(topic.clone()).or_default();
        asked.push((!clears).then_some(ids[0]));
        let index = asked.len() - 1;
        self.ask(at, Ask::Retain(topic, index), Command::Publish(publish));
    }

    /// Goes on with the oldest delivery that it can go on with.
    pub(super) fn take_next(&mut self, at: usize) {
        let Some(session) = self.peers[at].session else {
            return;
        };
        let Some(index) = self.peers[at]
            .held
            .iter()
            .position(|held| matches!(held.stage, 0 | 2))
        else {
            return;
        };
        let held = self.peers[at].held[index];
        if held.qos < 2 {
            let asks = self.chance(50);
            self.peers[at].held.swap(0, index);
            self.settle(at, 1, Settlement::Ack, asks);
            return;
        }
        if held.stage == 0 {
            let packet_id = self.peers[at].next_packet;
            self.peers[at].next_packet = packet_id % 60_000 + 1;
            self.peers[at].held[index].packet_id = packet_id;
            self.peers[at].held[index].stage = 1;
            let step = SessionStep::Assign {
                packet_id,
                queue: held.queue,
                entry: held.entry,
            };
            self.ask(at, Ask::Assign(packet_id), Command::Step(session, step));
            return;
        }
        if let Some(id) = held.id {
            self.facts.trying(held.queue, id);
        }
        self.peers[at].held[index].stage = 3;
        let packet_id = held.packet_id;
        let step = SessionStep::Received { packet_id };
        self.ask(at, Ask::Received(packet_id), Command::Step(session, step));
    }

    pub(super) fn assigned(&mut self, at: usize, packet: u16) {
        self.begun(at, packet);
        let peer = &mut self.peers[at];
        if let Some(held) = peer
            .held
            .iter_mut()
            .find(|held| held.packet_id == packet && held.stage == 1)
        {
            held.stage = 2;
        }
        if peer.draining {
            self.take_next(at);
        }
    }

    pub(super) fn received(&mut self, at: usize, packet: u16) {
        let peer = &mut self.peers[at];
        let Some(index) = peer
            .held
            .iter()
            .position(|held| held.packet_id == packet && held.stage == 3)
        else {
            return;
        };
        let held = peer.held.remove(index);
        self.facts.settled(held.queue, held.entry);
        if let Some(session) = self.peers[at].session {
            let step = SessionStep::Completed { packet_id: packet };
            self.tell(at, Command::Step(session, step));
        }
    }
}
