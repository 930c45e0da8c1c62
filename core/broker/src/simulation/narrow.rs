//! Lives in which little happens beside one thing: files come to hold next to nothing else, and die as a whole.

use crate::api::Settlement;
use crate::simulation::peer::Role;
use crate::simulation::world::World;
use rand::RngExt;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    Delays,
    Ends,
    Session,
    /// Transactions of the compacted log, which mostly fail.
    Table,
    Transactions,
}

impl World {
    /// Another life: what is it about, if about one thing?
    pub(super) fn choose_theme(&mut self) {
        let all = [
            Theme::Delays,
            Theme::Ends,
            Theme::Session,
            Theme::Table,
            Theme::Transactions,
        ];
        let one = all[self.random.random_range(0..all.len())];
        self.theme = self.chance(20).then_some(one);
    }

    fn one_of(&mut self, role: Role) -> usize {
        let peers = self.peers.iter().enumerate();
        let peers = peers.filter(|(_, peer)| peer.role == role);
        let those: Vec<usize> = peers.map(|(at, _)| at).collect();
        those[self.random.random_range(0..those.len())]
    }

    /// A client does something about it, or fills a log of which little is kept.
    pub(super) fn act_on(&mut self, theme: Theme) {
        if self.chance(30) {
            let at = self.one_of(Role::Kafka);
            self.fill_window(at);
            return;
        }
        match theme {
            Theme::Delays | Theme::Ends => {
                let at = self.one_of(Role::Amqp);
                match theme {
                    _ if self.chance(40) => self.settle(at, 3, Settlement::Ack, true),
                    Theme::Delays => self.act_on_delays(at),
                    _ => self.act_on_ends(at),
                }
            }
            Theme::Session => {
                let at = self.one_of(Role::Mqtt(0));
                self.act_mqtt(at);
            }
            Theme::Table if self.chance(20) => {
                let at = self.one_of(Role::Kafka);
                self.read_raw(at);
            }
            Theme::Table | Theme::Transactions => {
                let at = self.one_of(Role::Transactor);
                self.act_transactor(at);
            }
        }
    }
}
