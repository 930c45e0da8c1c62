//! Subscriptions of MQTT sessions, their own and shared ones, and the retained messages that follow them.

use crate::api::*;
use crate::event::Event as Decision;
use crate::path::queue_of_filter;
use crate::route::check_mqtt_filter;
use crate::shard::Shard;
use crate::shard::dispatch::{Located, expired};
use crate::shard::release::Effect;
use crate::state::apply::first_level;
use crate::state::order::KEY_SHARED;
use bytes::Bytes;

impl Shard {
    pub(crate) fn subscribe(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        subscribe: Subscribe,
    ) -> Result<Reply, Refusal> {
        let id = subscribe.session;
        self.check_held(client, id)?;
        let mut results = Vec::with_capacity(subscribe.subscriptions.len());
        let mut retained = Vec::new();
        for subscription in subscribe.subscriptions {
            if let Err(error) = check_mqtt_filter(&subscription.filter) {
                results.push(Err(Refusal::BadPattern(error.to_string())));
                continue;
            }
            let Some(session) = self.state.sessions.get(&id) else {
                return Err(Refusal::ShardLost);
            };
            let (own, durable) = (session.queue, session.durable());
            let known = session
                .subscriptions
                .get(&subscription.filter, subscription.share.as_ref());
            let new = known.is_none();
            let named = queue_of_filter(&subscription.filter)
                .map(|name| subscription.filter.slice_ref(name));
            let addressed = named.is_some();
            let queue = match (&subscription.share, named) {
                (None, Some(name)) => match self.subscribable_queue(client, namespace, &name) {
                    Ok(queue) => {
                        let credit = self.session_credit(client, own);
                        self.attach_consumer(queue, client, credit);
                        self.after
                            .push(Effect::Activate(queue, client, SESSION_CONSUMER));
                        queue
                    }
                    Err(refusal) => {
                        results.push(Err(refusal));
                        continue;
                    }
                },
                (Some(_), Some(_)) => {
                    let why = "a shared subscription to a queue".to_owned();
                    results.push(Err(Refusal::BadPattern(why)));
                    continue;
                }
                (None, None) => own,
                (Some(group), None) => {
                    let queue = self.shared_queue(namespace, group, &subscription.filter, durable);
                    let credit = self.session_credit(client, own);
                    self.attach_consumer(queue, client, credit);
                    self.after
                        .push(Effect::Activate(queue, client, SESSION_CONSUMER));
                    queue
                }
            };
            let sends_retained = subscription.share.is_none()
                && !addressed
                && (subscription.retain_handling == 0 || subscription.retain_handling == 1 && new);
            let subscribed = Decision::Subscribed {
                session: id,
                queue,
                subscription,
            };
            self.record_if(durable, &subscribed);
            let Decision::Subscribed { subscription, .. } = subscribed else {
                continue;
            };
            let (filter, qos) = (subscription.filter, subscription.qos);
            if new && !addressed {
                let head = first_level(&filter, b'/');
                self.link_queue_from(namespace, queue, head, sends_retained);
            }
            if sends_retained {
                retained.push((filter, qos));
            }
            results.push(Ok(()));
        }
        let reply = Reply::Subscribed(results);
        self.send_retained(namespace, id, retained);
        Ok(reply)
    }

    /// Does this client hold the session?
    fn check_held(&self, client: ClientId, id: SessionId) -> Result<(), Refusal> {
        let session = self.state.sessions.get(&id);
        if session.is_some_and(|session| session.client == Some(client)) {
            return Ok(());
        }
        Err(Refusal::NotFound(Noun::Session, Name::from(id.to_string())))
    }

    /// The credit that a client has for the queue of its session: it has as much for each that it shares.
    fn session_credit(&self, client: ClientId, own: QueueId) -> u32 {
        let queue = self.state.queues.get(&own);
        let consumer = queue.and_then(|queue| queue.consumers.get(&(client, SESSION_CONSUMER)));
        consumer.map_or(0, |consumer| consumer.limit)
    }

    /// The queue of a shared subscription, made on its first subscriber.
    fn shared_queue(
        &mut self,
        namespace: NamespaceId,
        group: &Name,
        filter: &Bytes,
        durable: bool,
    ) -> QueueId {
        let key = (group.clone(), filter.clone());
        let known = self
            .state
            .namespace(namespace)
            .and_then(|names| names.shared.get(&key).copied());
        if let Some(queue) = known {
            return queue;
        }
        let by_key = self.config.shared_by_key;
        let arguments = by_key
            .then(|| (Name::from_static(KEY_SHARED), Value::Bool(true)))
            .into_iter()
            .collect();
        let mut name = b"$share/".to_vec();
        name.extend_from_slice(group);
        name.push(b'/');
        name.extend_from_slice(filter);
        self.add_queue(
            namespace,
            QueueKind::Shared,
            DeclareQueue {
                name: Name::from(name),
                durable,
                exclusive: false,
                auto_delete: false,
                arguments,
            },
        )
    }

    /// A shared subscription goes with its last subscriber.
    pub(crate) fn drop_shared_if_unused(&mut self, queue: QueueId) {
        let unused = self
            .state
            .queues
            .get(&queue)
            .is_some_and(|queue| queue.kind == QueueKind::Shared && queue.subscriptions == 0);
        if unused {
            self.drop_queue(queue);
        }
    }

    pub(crate) fn unsubscribe(
        &mut self,
        client: ClientId,
        unsubscribe: Unsubscribe,
    ) -> Result<Reply, Refusal> {
        let id = unsubscribe.session;
        self.check_held(client, id)?;
        let mut results = Vec::with_capacity(unsubscribe.filters.len());
        for (filter, share) in unsubscribe.filters {
            let Some(session) = self.state.sessions.get(&id) else {
                return Err(Refusal::ShardLost);
            };
            let Some((queue, _)) = session.subscriptions.get(&filter, share.as_ref()) else {
                results.push(false);
                continue;
            };
            let (queue, own, durable) = (*queue, session.queue, session.durable());
            self.record_if(
                durable,
                &Decision::Unsubscribed {
                    session: id,
                    filter,
                    share,
                },
            );
            if queue == own {
                self.unlink_unwanted(queue);
            } else {
                let kept = self.in_flight_from(id, queue);
                self.requeue_but(client, queue, &kept);
                self.remove_consumer(queue, client, SESSION_CONSUMER);
                self.drop_shared_if_unused(queue);
            }
            results.push(true);
        }
        Ok(Reply::Unsubscribed(results))
    }

    /// Retained messages for new subscriptions, after their reply. At QoS 1 and 2 a durable session holds them like
    /// any other delivery, so that they survive a reconnect.
    fn send_retained(&mut self, namespace: NamespaceId, id: SessionId, filters: Vec<(Bytes, u8)>) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        let (queue, durable) = (session.queue, session.durable());
        for (filter, qos) in filters {
            let found = self
                .state
                .namespace(namespace)
                .map(|names| names.retained.matching(&filter))
                .unwrap_or_default();
            for (_, kept) in found {
                if !self.shows(kept, &filter) {
                    continue;
                }
                let (original, partition) = (kept.sequence, kept.partition);
                if qos > 0 && durable {
                    let sequence = self.take_sequences(1);
                    self.record(&match partition {
                        0 => Decision::Copied {
                            queue,
                            sequence,
                            original,
                        },
                        partition => Decision::TableCopied {
                            queue,
                            sequence,
                            original,
                            partition,
                        },
                    });
                    self.after
                        .push(Effect::Deliver(sequence, smallvec::smallvec![queue]));
                    continue;
                }
                match self.locate_kept(kept) {
                    Located::Here(message) if expired(&message, self.now.unix_ms) => {}
                    Located::Here(message) => {
                        let published = message.envelope().map_or(0, |envelope| envelope.qos);
                        self.after
                            .push(Effect::Retained(queue, message, published.min(qos)));
                    }
                    // Past the tail its QoS is not known here: the one granted, as far as it was published with it.
                    Located::Cold(_) => {
                        self.after.push(Effect::RetainedCold(queue, kept, qos));
                    }
                }
            }
        }
    }
}
