//! What a protocol says to the broker and hears from it: plain, serialisable data with correlation numbers.

mod address;
mod command;
mod config;
mod event;
mod ids;
mod listing;
mod message;
mod publish;
mod queue;
mod refusal;
mod reply;
mod session;
mod topic;
mod transaction;
mod value;

pub use address::*;
pub use command::*;
pub use config::*;
pub use event::*;
pub use ids::*;
pub use listing::*;
pub use message::*;
pub use publish::*;
pub use queue::*;
pub use refusal::*;
pub use reply::*;
pub use session::*;
pub use topic::*;
pub use transaction::*;
pub use value::*;
