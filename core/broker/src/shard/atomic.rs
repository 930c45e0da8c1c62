//! Several commands as one atomic frame.

use crate::api::*;
use crate::shard::Shard;
use crate::shard::dead_letters::spelled_bytes;

/// Commands in one atomic frame, at the most.
const COMMANDS_MAX: usize = 100_000;

impl Shard {
    /// Publishes and settles as one frame (AMQP `tx.commit`). Refused as a whole before anything takes effect.
    pub(crate) fn atomic(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        commands: Vec<Command>,
    ) -> Result<Reply, Refusal> {
        if commands.len() > COMMANDS_MAX {
            return Err(Refusal::Limit("commands in a transaction".to_owned()));
        }
        if commands
            .iter()
            .any(|command| matches!(command, Command::Publish(_)))
        {
            self.may_publish()?;
        }
        let bytes: usize = commands
            .iter()
            .map(|command| match command {
                Command::Publish(publish) => {
                    let records = publish.records.iter();
                    let beside = records.map(|record| 512 + spelled_bytes(&record.envelope));
                    publish.batch.len() + beside.sum::<usize>()
                }
                Command::Settle(settle) if settle.settlement != Settlement::Ack => settle
                    .entries
                    .iter()
                    .filter(|(queue, _)| self.dead_letters_of(*queue))
                    .map(|(queue, entry)| 64 + self.entry_bytes(*queue, entry.0))
                    .sum(),
                Command::Settle(settle) => 64 + 16 * settle.entries.len(),
                _ => 64,
            })
            .sum();
        let limit = self.journal.frame_bytes_max();
        if bytes > limit {
            return Err(Refusal::TooLarge {
                limit: limit as u64,
            });
        }
        for command in &commands {
            match command {
                Command::Publish(publish) => {
                    for record in &publish.records {
                        self.check_address(namespace, &record.envelope.address)?;
                    }
                }
                Command::Settle(_) | Command::Cancel(_) => {}
                _ => {
                    return Err(Refusal::Conflict(
                        "only publishes and settlements".to_owned(),
                    ));
                }
            }
        }
        // Acknowledgements gathered so far have a frame of their own; this one's go into its own.
        self.flush_acked(true);
        self.in_one_frame = true;
        let done = self.atomically(client, namespace, commands);
        self.in_one_frame = false;
        let outcomes = done?;
        self.flush_acked(true);
        Ok(Reply::Published(Published {
            outcomes,
            duplicate: false,
        }))
    }

    fn atomically(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        commands: Vec<Command>,
    ) -> Result<Vec<Routed>, Refusal> {
        let mut outcomes = Vec::new();
        for command in commands {
            match command {
                Command::Publish(publish) => {
                    let count = publish.records.len();
                    let published = self.try_publish(client, namespace, publish)?;
                    if published.outcomes.is_empty() {
                        outcomes.resize(outcomes.len() + count, Routed::Taken);
                    } else {
                        outcomes.extend(published.outcomes);
                    }
                }
                Command::Settle(settle) => self.settle_entries(client, settle),
                Command::Cancel(consumer) => {
                    self.cancel(client, consumer)?;
                }
                _ => {}
            }
        }
        Ok(outcomes)
    }
}
