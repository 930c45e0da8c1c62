//! The file that tells other programs which addresses were bound.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Writes `{"kafka":"127.0.0.1:40123",...}` so that a reader sees the whole file or none.
pub(crate) fn write(path: &Path, addresses: &BTreeMap<String, SocketAddr>) -> anyhow::Result<()> {
    let text = serde_json::to_string(addresses)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        drop(file);
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write the addresses file {}", path.display()))
}
