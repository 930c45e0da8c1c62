//! `omnilog journal`: looking into a journal that no server has open.

use crate::cli::JournalCommand;

pub(crate) fn run(command: &JournalCommand) -> anyhow::Result<()> {
    anyhow::bail!("not yet: {command:?}")
}
