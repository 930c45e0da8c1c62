//! Applying decisions about MQTT sessions and their subscriptions.

use crate::api::*;
use crate::event::Event;
use crate::path::queue_of_filter;
use crate::state::apply::first_level;
use crate::state::queue::Queue;
use crate::state::routes::{PatternKind, Target};
use crate::state::session::{OutgoingState, Session};
use crate::state::{State, apart};

impl State {
    pub(super) fn apply_session(&mut self, event: &Event) {
        self.touch_changed_session(event);
        match event {
            Event::SessionOpened {
                namespace,
                session,
                client_id,
                queue,
                expiry,
                will,
            } => {
                self.next_session = self.next_session.max(session.0 + 1);
                let durable = self.queues.get(queue).is_some_and(Queue::durable);
                let made = || Session {
                    id: *session,
                    namespace: *namespace,
                    client_id: apart(client_id),
                    queue: *queue,
                    durable,
                    expiry: *expiry,
                    expires_at_ms: None,
                    will: None,
                    subscriptions: Default::default(),
                    incoming: Default::default(),
                    outgoing: Default::default(),
                    client: None,
                    handed_back: Default::default(),
                    will_at_ms: None,
                    cut_off_at_ms: None,
                    waiting: Default::default(),
                    mark: Default::default(),
                };
                let Some(open) = self.sessions.get_or_insert_with(*session, made) else {
                    return;
                };
                self.changes.touch(open);
                open.expiry = *expiry;
                open.expires_at_ms = None;
                open.will = will.clone().map(Box::new);
                open.will_at_ms = None;
                self.name_session(*namespace, *session);
            }
            Event::SessionClosed {
                session,
                expiry,
                expires_at_ms,
            } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.expiry = *expiry;
                    session.expires_at_ms = *expires_at_ms;
                }
            }
            Event::WillGone { session } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.will = None;
                    session.will_at_ms = None;
                }
            }
            Event::SessionEnded { session } => {
                if let Some(known) = self.sessions.get(session) {
                    self.unname_session(known.namespace, *session);
                }
                let Some(session) = self.sessions.remove(session) else {
                    return;
                };
                for (queue, subscription) in session.subscriptions.values() {
                    self.unsubscribe(session.namespace, session.id, *queue, subscription);
                }
            }
            Event::Subscribed {
                session,
                queue,
                subscription,
            } => {
                let id = *session;
                let Some(session) = self.sessions.get_mut(session) else {
                    return;
                };
                let own = Subscription {
                    filter: apart(&subscription.filter),
                    share: subscription.share.clone(),
                    ..*subscription
                };
                let before = session.subscriptions.insert(*queue, own);
                let namespace = session.namespace;
                if let Some((queue, subscription)) = before {
                    self.unsubscribe(namespace, id, queue, &subscription);
                }
                // A session's own queue goes with it, whatever it serves.
                if subscription.share.is_some()
                    && let Some(queue) = self.queues.get_mut(queue)
                {
                    queue.subscriptions += 1;
                }
                if queue_of_filter(&subscription.filter).is_some() {
                    return;
                }
                let target = subscribed_target(id, *queue, subscription);
                let Some(names) = self.namespace_mut(namespace) else {
                    return;
                };
                if let Some(group) = &subscription.share {
                    names
                        .shared
                        .insert((group.clone(), subscription.filter.clone()), *queue);
                }
                // The filter was checked when it was decided.
                let _ =
                    names
                        .routes
                        .filters
                        .insert(PatternKind::Mqtt, &subscription.filter, target);
                names
                    .routes
                    .touch_pattern(first_level(&subscription.filter, b'/'));
            }
            Event::Unsubscribed {
                session,
                filter,
                share,
            } => {
                let id = *session;
                let Some(session) = self.sessions.get_mut(session) else {
                    return;
                };
                let gone = session.subscriptions.remove(filter, share.as_ref());
                let Some((queue, subscription)) = gone else {
                    return;
                };
                let namespace = session.namespace;
                self.unsubscribe(namespace, id, queue, &subscription);
            }
            Event::IncomingReserved { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.incoming.insert(*packet_id);
                }
            }
            Event::IncomingReleased { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.incoming.remove(packet_id);
                }
            }
            Event::OutgoingAssigned {
                session,
                packet_id,
                queue,
                entry,
            } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.outgoing.retain(|(known, _)| known != packet_id);
                    session
                        .outgoing
                        .push((*packet_id, OutgoingState::Published(*queue, *entry)));
                }
            }
            Event::OutgoingReceived { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session)
                    && let Some((_, state)) = session
                        .outgoing
                        .iter_mut()
                        .find(|(known, _)| known == packet_id)
                {
                    *state = OutgoingState::Received;
                }
            }
            Event::OutgoingCompleted { session, packet_id } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.outgoing.retain(|(known, _)| known != packet_id);
                }
            }
            _ => {}
        }
    }

    fn touch_changed_session(&mut self, event: &Event) {
        match event {
            Event::SessionEnded { session } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    self.changes.gone(session);
                }
            }
            Event::SessionClosed { session, .. }
            | Event::WillGone { session }
            | Event::Subscribed { session, .. }
            | Event::Unsubscribed { session, .. }
            | Event::IncomingReserved { session, .. }
            | Event::IncomingReleased { session, .. }
            | Event::OutgoingAssigned { session, .. }
            | Event::OutgoingReceived { session, .. }
            | Event::OutgoingCompleted { session, .. } => self.touch_session(*session),
            _ => {}
        }
    }

    fn unsubscribe(
        &mut self,
        namespace: NamespaceId,
        session: SessionId,
        queue: QueueId,
        subscription: &Subscription,
    ) {
        if subscription.share.is_some()
            && let Some(queue) = self.queues.get_mut(&queue)
        {
            queue.subscriptions = queue.subscriptions.saturating_sub(1);
        }
        if queue_of_filter(&subscription.filter).is_some() {
            return;
        }
        let target = subscribed_target(session, queue, subscription);
        let Some(names) = self.namespace_mut(namespace) else {
            return;
        };
        names
            .routes
            .filters
            .remove(PatternKind::Mqtt, &subscription.filter, &target);
        names
            .routes
            .touch_pattern(first_level(&subscription.filter, b'/'));
    }
}

/// The matcher's target for a subscription.
fn subscribed_target(session: SessionId, queue: QueueId, subscription: &Subscription) -> Target {
    Target::Subscribed {
        queue,
        session,
        qos: subscription.qos,
        no_local: subscription.no_local,
    }
}
