//! Queues: declared, checked, emptied, deleted.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::shard::pieces::PIECE;
use crate::shard::ranks::check_modes;
use crate::state::exchange::argument;
use bytes::Bytes;

impl Shard {
    /// The queue of this name, if this client may use it.
    pub(crate) fn usable_queue(
        &self,
        client: ClientId,
        namespace: NamespaceId,
        name: &Name,
    ) -> Result<QueueId, Refusal> {
        let id = self
            .state
            .queue_id(namespace, name)
            .ok_or_else(|| Refusal::NotFound(Noun::Queue, name.clone()))?;
        let owner = self.state.queues.get(&id).and_then(|queue| queue.owner);
        if owner.is_some_and(|owner| owner != client) {
            return Err(Refusal::Locked(name.clone()));
        }
        Ok(id)
    }

    fn queue_info(&self, id: QueueId) -> Result<QueueInfo, Refusal> {
        let queue = self.state.queues.get(&id).ok_or(Refusal::ShardLost)?;
        Ok(QueueInfo {
            queue: id,
            name: queue.declared.name.clone(),
            ready: queue.ready_count(),
            consumers: u32::try_from(queue.consumers.len()).unwrap_or(u32::MAX),
        })
    }

    pub(crate) fn declare_queue(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        mut declare: DeclareQueue,
    ) -> Result<Reply, Refusal> {
        if declare.name.is_empty() {
            declare.name = self.generated_name();
        }
        match self.usable_queue(client, namespace, &declare.name) {
            Ok(id) => {
                let known = self.state.queues.get(&id).ok_or(Refusal::ShardLost)?;
                compare_queues(&declare, &known.declared)?;
                self.used(id);
                return Ok(Reply::Queue(self.queue_info(id)?));
            }
            Err(Refusal::NotFound(..)) => {}
            Err(refusal) => return Err(refusal),
        }
        check_modes(&declare)?;
        if declare.durable && !declare.exclusive {
            self.may_grow()?;
        }
        let id = self.add_queue(namespace, QueueKind::Classic, declare.clone());
        self.used(id);
        if declare.exclusive {
            if let Some(queue) = self.state.queues.get_mut(&id) {
                queue.owner = Some(client);
            }
            if let Some(state) = self.clients.get_mut(&client) {
                state.exclusive.insert(id);
            }
        } else if declare.durable && !declare.auto_delete {
            self.give_log(namespace, declare.name.clone());
        }
        if !declare.exclusive {
            self.link_queue(namespace, id, &declare.name);
        }
        Ok(Reply::Queue(self.queue_info(id)?))
    }

    /// Makes a queue.
    pub(crate) fn add_queue(
        &mut self,
        namespace: NamespaceId,
        kind: QueueKind,
        declared: DeclareQueue,
    ) -> QueueId {
        let queue = QueueId(self.state.next_queue);
        let durable = declared.durable && !declared.exclusive;
        self.record_if(
            durable,
            &Decision::QueueDeclared {
                namespace,
                queue,
                kind,
                declared,
            },
        );
        queue
    }

    /// A server-named queue's name, as RabbitMQ makes them: 16 random bytes in URL-safe base64.
    fn generated_name(&mut self) -> Name {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = u128::from((self.random)()) << 64 | u128::from((self.random)());
        let mut name = b"amq.gen-".to_vec();
        for _ in 0..22 {
            let letter = usize::try_from(random & 63).unwrap_or(0);
            name.extend(LETTERS.get(letter));
            random >>= 6;
        }
        Name::from(name)
    }

    pub(crate) fn check_queue(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        name: &Name,
    ) -> Result<Reply, Refusal> {
        let id = self.usable_queue(client, namespace, name)?;
        self.used(id);
        Ok(Reply::Queue(self.queue_info(id)?))
    }

    pub(crate) fn delete_queue(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        name: &Name,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<Reply, Refusal> {
        let id = match self.usable_queue(client, namespace, name) {
            Ok(id) => id,
            Err(Refusal::NotFound(..)) => return Ok(Reply::Count(0)),
            Err(refusal) => return Err(refusal),
        };
        let queue = self.state.queues.get(&id).ok_or(Refusal::ShardLost)?;
        if if_unused && !queue.consumers.is_empty() {
            return Err(Refusal::InUse(Noun::Queue, name.clone()));
        }
        let ready = queue.ready_count() + queue.deferred_count();
        if if_empty && ready > 0 {
            return Err(Refusal::NotEmpty(name.clone()));
        }
        self.drop_queue(id);
        Ok(Reply::Count(ready))
    }

    /// Deletes a queue: its consumers are told, its leases void, its bindings gone.
    pub(crate) fn drop_queue(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get(&id) else {
            return;
        };
        let namespace = queue.namespace;
        let durable = queue.durable();
        let kind = queue.kind;
        let sources: Vec<Name> = queue.bound_to.iter().cloned().collect();
        let consumers: Vec<_> = queue.consumers.iter().cloned().collect();
        let owner = queue.owner;
        if let Some(at) = queue.timer_ms {
            self.queue_timers.remove(&(at, id));
        }
        let leased: Vec<ClientId> = queue.leases.values().map(|lease| lease.client).collect();
        self.record_if(durable, &Decision::QueueDeleted { queue: id });
        for consumer in consumers {
            if let Some(state) = self.clients.get_mut(&consumer.client)
                && kind == QueueKind::Classic
            {
                state.consumers.remove(&consumer.key);
                self.send(consumer.client, Event::ConsumerCancelled(consumer.key));
            }
        }
        for client in leased.into_iter().chain(owner) {
            if let Some(state) = self.clients.get_mut(&client) {
                state.leased_from.remove(&id);
                state.exclusive.remove(&id);
            }
        }
        for source in sources {
            self.auto_delete_exchange(namespace, &source);
        }
    }

    pub(crate) fn purge_queue(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        name: &Name,
    ) -> Result<Reply, Refusal> {
        let id = self.usable_queue(client, namespace, name)?;
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return Err(Refusal::ShardLost);
        };
        queue.recall_run(0, u64::MAX);
        let count = queue.ready_count();
        let entries: Vec<u64> = queue.memory.keys().copied().collect();
        for entry in entries {
            queue.forget(entry, entry);
            queue.memory.remove(&entry);
        }
        queue.memory_bytes = 0;
        let runs: Vec<(u64, u64)> = queue.ready.iter_runs().collect();
        let durable = queue.durable();
        for piece in runs.chunks(PIECE) {
            let runs = piece.to_vec();
            self.record_if(durable, &Decision::Removed { queue: id, runs });
            if !self.fits_frame(self.journal.frame_bytes_max() / 2) {
                self.conclude_frame();
            }
        }
        Ok(Reply::Count(count))
    }
}

/// Arguments that must be equal when a queue is declared again; others are not compared.
const COMPARED: [&str; 19] = [
    "x-key-shared",
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-single-active-consumer",
    "x-queue-type",
    "x-delivery-limit",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-delayed-retry-multiplier",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
];

/// Is a declaration equal to what is there (RabbitMQ's `precondition_failed` texts)?
fn compare_queues(declare: &DeclareQueue, known: &DeclareQueue) -> Result<(), Refusal> {
    let differs = |argument: &str, received: String, current: String| Refusal::Inequivalent {
        noun: Noun::Queue,
        name: declare.name.clone(),
        argument: argument.to_owned(),
        received,
        current,
    };
    if declare.exclusive != known.exclusive {
        // Only its owner gets this far.
        return Err(if declare.exclusive {
            Refusal::Locked(declare.name.clone())
        } else {
            differs("exclusive", "'false'".to_owned(), "'true'".to_owned())
        });
    }
    let flags = [
        // An exclusive queue is gone with its connection, durable or not.
        (
            "durable",
            declare.durable || declare.exclusive,
            known.durable || known.exclusive,
        ),
        ("auto_delete", declare.auto_delete, known.auto_delete),
    ];
    for (argument, received, current) in flags {
        if received != current {
            return Err(differs(
                argument,
                format!("'{received}'"),
                format!("'{current}'"),
            ));
        }
    }
    for name in COMPARED {
        let value = |declared: &DeclareQueue| {
            let value = argument(&declared.arguments, name.as_bytes()).cloned();
            let classic = Value::Bytes(Bytes::from_static(b"classic"));
            value.filter(|value| name != "x-queue-type" || *value != classic)
        };
        let (received, current) = (value(declare), value(known));
        if received != current {
            return Err(differs(
                name,
                spelled(received.as_ref()),
                spelled(current.as_ref()),
            ));
        }
    }
    Ok(())
}

fn spelled(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::Int(value)) => format!("the value '{value}' of type 'signedint'"),
        Some(Value::Bytes(value)) => {
            format!(
                "the value '{}' of type 'longstr'",
                String::from_utf8_lossy(value)
            )
        }
        Some(Value::Bool(value)) => format!("the value '{value}' of type 'bool'"),
        Some(other) => format!("the value '{other:?}'"),
    }
}
