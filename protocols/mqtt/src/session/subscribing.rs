//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 sections 3.8 and 3.10): each filter gets its own answer, in order.

use super::incoming::owned;
use super::subscriptions::Subscriptions;
use super::{Awaited, End, Open};
use crate::MqttConfig;
use crate::codec::{
    Filter, ReasonCode, SubAck, Subscribe, UnsubAck, Unsubscribe, Violation, is_topic_name,
    level_count, split_shared,
};
use crate::gather::first_level;
use crate::protocol::Shared;
use crate::rescue;
use bytes::Bytes;
use omnilog_auth::{Operation, Resource};
use omnilog_broker::path::queue_of_filter;
use omnilog_broker::{Command, Name, Refusal, Subscription};
use omnilog_wire::Outbox;
use std::collections::VecDeque;

/// The state of a connection's subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscribing {
    pub(super) table: Subscriptions,
    subscribes: VecDeque<PendingSubscribe>,
    unsubscribes: VecDeque<PendingUnsubscribe>,
    next: u64,
}

/// A SUBSCRIBE that the broker has not answered.
#[derive(Debug)]
struct PendingSubscribe {
    number: u64,
    packet_id: u16,
    /// What we refused ourselves; `None`: the broker's to say.
    refused: Vec<Option<ReasonCode>>,
    /// What the broker was asked for, in order.
    asked: Vec<Subscription>,
}

/// An UNSUBSCRIBE that the broker has not answered.
#[derive(Debug)]
struct PendingUnsubscribe {
    number: u64,
    packet_id: u16,
    refused: Vec<Option<ReasonCode>>,
    asked: Vec<(Bytes, Option<Name>)>,
}

impl Subscribing {
    pub(super) fn new(subscriptions: Vec<Subscription>) -> Self {
        Self {
            table: Subscriptions::new(subscriptions),
            ..Self::default()
        }
    }
}

/// First levels that mean something else than a topic, which is not served.
const NOT_SERVED: [&[u8]; 2] = [b"$stream", b"$CONTROL"];

/// A filter and its group, within the limits.
fn check_filter(config: &MqttConfig, text: &Bytes) -> Result<(Bytes, Option<Name>), ReasonCode> {
    if text.len() > config.topic_bytes_max || level_count(text) > config.topic_levels_max {
        return Err(ReasonCode::TopicFilterInvalid);
    }
    let shared = split_shared(text).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    if NOT_SERVED.contains(&first_level(&shared.filter)) {
        return Err(ReasonCode::TopicFilterInvalid);
    }
    if first_level(&shared.filter) == b"$queue" {
        // A queue by its name, and by nothing else.
        let named = queue_of_filter(&shared.filter).is_some_and(is_topic_name);
        if !named || shared.group.is_some() {
            return Err(ReasonCode::TopicFilterInvalid);
        }
    }
    Ok((owned(&shared.filter), shared.group.as_ref().map(owned)))
}

impl Open {
    pub(super) fn on_subscribe(
        &mut self,
        shared: &Shared,
        subscribe: &Subscribe,
        out: &mut Outbox,
    ) -> Result<(), End> {
        if subscribe.filters.len() > shared.config.filters_max {
            return Err(Violation::new(ReasonCode::QuotaExceeded, "too many filters").into());
        }
        let mut refused = Vec::with_capacity(subscribe.filters.len());
        let mut asked = Vec::new();
        for filter in &subscribe.filters {
            match self.subscription(shared, filter, subscribe.identifier, asked.len())? {
                Ok(subscription) => {
                    asked.push(subscription);
                    refused.push(None);
                }
                Err(reason) => refused.push(Some(reason)),
            }
        }
        self.subscribing.next += 1;
        let pending = PendingSubscribe {
            number: self.subscribing.next,
            packet_id: subscribe.packet_id,
            refused,
            asked,
        };
        if pending.asked.is_empty() {
            self.put_suback(pending, &Ok(Vec::new()), out);
            return Ok(());
        }
        out.command(
            Awaited::Subscribe(pending.number).encode(),
            Command::Subscribe(omnilog_broker::Subscribe {
                session: self.session,
                subscriptions: pending.asked.clone(),
            }),
        );
        self.subscribing.subscribes.push_back(pending);
        Ok(())
    }

    /// The subscription that a filter asks for, or the code that refuses it.
    fn subscription(
        &self,
        shared: &Shared,
        filter: &Filter,
        identifier: Option<u32>,
        more: usize,
    ) -> Result<Result<Subscription, ReasonCode>, Violation> {
        let (text, share) = match check_filter(&shared.config, &filter.filter) {
            Ok(checked) => checked,
            Err(reason) => return Ok(Err(reason)),
        };
        if share.is_some() && filter.no_local {
            return Err(Violation::protocol("no local on a shared subscription"));
        }
        if self.subscribing.table.len() + more >= shared.config.subscriptions_max {
            return Ok(Err(ReasonCode::QuotaExceeded));
        }
        let name = queue_of_filter(&text).unwrap_or_else(|| first_level(&text));
        let resource = Resource::Name(&self.namespace, name);
        let rules = shared.authenticator.authority().rules();
        if !rules.allows(&self.principal, Operation::Read, resource) {
            return Ok(Err(ReasonCode::NotAuthorized));
        }
        Ok(Ok(Subscription {
            no_local: filter.no_local || (self.peer.bridge && share.is_none()),
            filter: text,
            share,
            qos: filter.qos,
            retain_as_published: filter.retain_as_published || self.peer.bridge,
            retain_handling: filter.retain_handling as u8,
            identifier,
        }))
    }

    pub(super) fn on_subscribed(
        &mut self,
        number: u64,
        result: &Result<Vec<Result<(), Refusal>>, Refusal>,
        out: &mut Outbox,
    ) {
        let subscribes = &mut self.subscribing.subscribes;
        let Some(index) = subscribes
            .iter()
            .position(|pending| pending.number == number)
        else {
            return;
        };
        if let Some(pending) = subscribes.remove(index) {
            self.put_suback(pending, result, out);
        }
    }

    fn put_suback(
        &mut self,
        pending: PendingSubscribe,
        result: &Result<Vec<Result<(), Refusal>>, Refusal>,
        out: &mut Outbox,
    ) {
        let mut granted = Vec::with_capacity(pending.asked.len());
        let mut asked = pending.asked.into_iter().enumerate();
        let mut reasons = Vec::with_capacity(pending.refused.len());
        for refused in pending.refused {
            let reason = match refused {
                Some(reason) => reason,
                None => match asked.next() {
                    Some((index, subscription)) => match outcome(result, index) {
                        Ok(()) => {
                            let reason = ReasonCode::granted(subscription.qos);
                            granted.push(subscription);
                            reason
                        }
                        Err(refusal) => subscribe_reason(refusal),
                    },
                    None => ReasonCode::UnspecifiedError,
                },
            };
            reasons.push(reason);
        }
        self.subscribing.table.granted(granted);
        let suback = SubAck {
            packet_id: pending.packet_id,
            reasons,
            reason_string: None,
        };
        suback.put(self.peer.version, out.buffer());
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        shared: &Shared,
        unsubscribe: &Unsubscribe,
        out: &mut Outbox,
    ) -> Result<(), End> {
        if unsubscribe.filters.len() > shared.config.filters_max {
            return Err(Violation::new(ReasonCode::QuotaExceeded, "too many filters").into());
        }
        let mut refused = Vec::with_capacity(unsubscribe.filters.len());
        let mut asked = Vec::new();
        for filter in &unsubscribe.filters {
            match check_filter(&shared.config, filter) {
                Ok(filter) => {
                    asked.push(filter);
                    refused.push(None);
                }
                Err(reason) => refused.push(Some(reason)),
            }
        }
        self.subscribing.next += 1;
        let pending = PendingUnsubscribe {
            number: self.subscribing.next,
            packet_id: unsubscribe.packet_id,
            refused,
            asked,
        };
        if pending.asked.is_empty() {
            self.put_unsuback(pending, &Ok(Vec::new()), out);
            return Ok(());
        }
        out.command(
            Awaited::Unsubscribe(pending.number).encode(),
            Command::Unsubscribe(omnilog_broker::Unsubscribe {
                session: self.session,
                filters: pending.asked.clone(),
            }),
        );
        self.subscribing.unsubscribes.push_back(pending);
        Ok(())
    }

    pub(super) fn on_unsubscribed(
        &mut self,
        number: u64,
        result: &Result<Vec<bool>, Refusal>,
        out: &mut Outbox,
    ) {
        let unsubscribes = &mut self.subscribing.unsubscribes;
        let Some(index) = unsubscribes
            .iter()
            .position(|pending| pending.number == number)
        else {
            return;
        };
        if let Some(pending) = unsubscribes.remove(index) {
            self.put_unsuback(pending, result, out);
        }
    }

    fn put_unsuback(
        &mut self,
        pending: PendingUnsubscribe,
        result: &Result<Vec<bool>, Refusal>,
        out: &mut Outbox,
    ) {
        let mut asked = pending.asked.iter().enumerate();
        let mut reasons = Vec::with_capacity(pending.refused.len());
        for refused in pending.refused {
            reasons.push(match (refused, result) {
                (Some(reason), _) => reason,
                (None, Err(refusal)) => subscribe_reason(refusal),
                (None, Ok(found)) => match asked.next() {
                    Some((index, (filter, share))) => {
                        self.subscribing.table.remove(filter, share.as_ref());
                        if found.get(index) == Some(&true) {
                            ReasonCode::Success
                        } else {
                            ReasonCode::NoSubscriptionExisted
                        }
                    }
                    None => ReasonCode::UnspecifiedError,
                },
            });
        }
        let unsuback = UnsubAck {
            packet_id: pending.packet_id,
            reasons,
        };
        unsuback.put(self.peer.version, out.buffer());
    }
}

/// The broker's word on one filter.
fn outcome(
    result: &Result<Vec<Result<(), Refusal>>, Refusal>,
    index: usize,
) -> Result<(), &Refusal> {
    match result {
        Err(refusal) => Err(refusal),
        Ok(results) => match results.get(index) {
            Some(Err(refusal)) => Err(refusal),
            _ => Ok(()),
        },
    }
}

/// The codes that SUBACK and UNSUBACK may carry.
fn subscribe_reason(refusal: &Refusal) -> ReasonCode {
    match rescue::reason_of(refusal) {
        reason @ (ReasonCode::NotAuthorized
        | ReasonCode::QuotaExceeded
        | ReasonCode::TopicFilterInvalid
        | ReasonCode::ImplementationSpecificError) => reason,
        _ => ReasonCode::UnspecifiedError,
    }
}
