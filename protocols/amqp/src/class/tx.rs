//! `tx`: publishes and settlements of a channel as one.
//!
//! They are held until the commit, which gives them to the broker as one atomic command. A rollback forgets the
//! publishes and leaves the deliveries unsettled.

use crate::channel::{Channel, Tx};
use crate::codec::MethodId;
use crate::connection::{Awaited, Core};
use crate::gather::Incoming;
use crate::rescue::{Code, Fault};
use omnilog_broker::{Command, Settle, Settlement};
use omnilog_wire::Outbox;

impl Channel {
    pub(super) fn on_tx_method(
        &mut self,
        id: MethodId,
        core: &mut Core,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if id == MethodId::TX_SELECT {
            if self.confirms.is_some() {
                return Err(Fault::new(
                    Code::PreconditionFailed,
                    id,
                    "cannot switch from confirm to tx mode",
                ));
            }
            self.tx.get_or_insert_with(Tx::default);
            self.answer(Some(MethodId::TX_SELECT_OK), out);
            return Ok(());
        }
        let Some(tx) = &mut self.tx else {
            return Err(Fault::new(
                Code::PreconditionFailed,
                id,
                "channel is not transactional",
            ));
        };
        let tx = std::mem::take(tx);
        if id == MethodId::TX_ROLLBACK {
            let settled = tx.settled.into_iter();
            self.deliveries
                .put_back(settled.map(|(tag, queue, entry, _)| (tag, queue, entry)));
            self.answer(Some(MethodId::TX_ROLLBACK_OK), out);
            return Ok(());
        }
        let commands = tx.into_commands();
        if commands.is_empty() {
            self.answer(Some(MethodId::TX_COMMIT_OK), out);
        } else {
            core.ask(self, id, Awaited::Committed, Command::Atomic(commands), out);
        }
        Ok(())
    }
}

impl Channel {
    /// Keeps a publish, whose exchange is there, for the commit.
    pub(crate) fn hold(&mut self, incoming: Incoming, core: &Core) {
        let Some(tx) = &mut self.tx else {
            return;
        };
        tx.known.insert(incoming.exchange.clone());
        if !tx.gather.takes(&incoming) {
            tx.commands
                .extend(tx.gather.take(true).map(Command::Publish));
        }
        let now_ms = (core.shared.clock)();
        tx.gather.push(incoming, &core.publisher, now_ms);
    }
}

impl Tx {
    /// All that the transaction did.
    fn into_commands(mut self) -> Vec<Command> {
        let mut commands = self.commands;
        commands.extend(self.gather.take(true).map(Command::Publish));
        for settlement in [
            Settlement::Ack,
            Settlement::Requeue,
            Settlement::Fail,
            Settlement::Reject,
        ] {
            let entries: Vec<_> = self
                .settled
                .iter()
                .filter(|(.., how)| *how == settlement)
                .map(|(_, queue, entry, _)| (*queue, *entry))
                .collect();
            if !entries.is_empty() {
                commands.push(Command::Settle(Settle {
                    entries,
                    settlement,
                }));
            }
        }
        commands
    }
}
