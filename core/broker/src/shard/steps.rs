//! The steps of QoS 2 that are journaled before the next packet may leave (MQTT 4.3.3).

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::session::OutgoingState;

impl Shard {
    pub(crate) fn session_step(
        &mut self,
        client: ClientId,
        id: SessionId,
        step: SessionStep,
    ) -> Result<Reply, Refusal> {
        let missing = || Refusal::NotFound(Noun::Session, Name::from(id.to_string()));
        let session = self.state.sessions.get(&id).ok_or_else(missing)?;
        if session.client != Some(client) {
            return Err(missing());
        }
        let durable = session.durable();
        let state = |packet_id: u16| {
            session
                .outgoing
                .iter()
                .find(|(known, _)| *known == packet_id)
                .map(|(_, state)| *state)
        };
        let known = match step {
            SessionStep::Assign {
                packet_id,
                queue,
                entry,
            } => {
                // It may have gone meanwhile: purged, or back to a group that the session has left.
                let has = self
                    .state
                    .queues
                    .get(&queue)
                    .and_then(|queue| queue.leases.get(&entry))
                    .is_some_and(|lease| lease.client == client);
                if has {
                    self.record_if(
                        durable,
                        &Decision::OutgoingAssigned {
                            session: id,
                            packet_id,
                            queue,
                            entry,
                        },
                    );
                }
                has
            }
            SessionStep::Received { packet_id } => {
                let before = state(packet_id);
                self.record_if(
                    durable,
                    &Decision::OutgoingReceived {
                        session: id,
                        packet_id,
                    },
                );
                if let Some(OutgoingState::Published(queue, entry)) = before {
                    self.settle_entries(
                        client,
                        Settle {
                            entries: vec![(queue, entry)],
                            settlement: Settlement::Ack,
                        },
                    );
                    self.flush_acked(true);
                }
                before.is_some()
            }
            SessionStep::Completed { packet_id } => {
                let before = state(packet_id);
                self.record_if(
                    durable,
                    &Decision::OutgoingCompleted {
                        session: id,
                        packet_id,
                    },
                );
                if let Some(OutgoingState::Published(queue, entry)) = before {
                    self.settle_entries(
                        client,
                        Settle {
                            entries: vec![(queue, entry)],
                            settlement: Settlement::Ack,
                        },
                    );
                }
                before.is_some()
            }
            SessionStep::Released { packet_id } => {
                let known = session.incoming.contains(&packet_id);
                if known {
                    self.record_if(
                        durable,
                        &Decision::IncomingReleased {
                            session: id,
                            packet_id,
                        },
                    );
                }
                known
            }
        };
        Ok(Reply::Step(known))
    }
}
