//! The server's life: everything is put together here, runs, and is taken down in the reverse order.

use crate::admin::{self, Admin};
use crate::cli::ServeArgs;
use crate::config::{self, Settings};
use crate::data_dir::DataDir;
use crate::engine::Engine;
use crate::listeners::{self, Bound, Common};
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Signals, Word};
use crate::tls::Tls;
use crate::{addresses, banner, logging, memory, protocols};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long clients may take to hear that the journal has failed.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Serves until the system says stop, or the journal fails.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let settings = config::load(&args.config)?;
    logging::start(&settings.log)?;
    logging::exit_on_panic();
    memory::give_back()?;
    raise_file_limit();
    let _data_dir = DataDir::open(&settings.data_dir)?;
    if let Some(path) = &args.addresses_file {
        // What a killed server left behind must not pass for a ready one.
        _ = std::fs::remove_file(path);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.limits.connection_threads())
        .enable_all()
        .thread_name("connections")
        .build()
        .context("cannot start the runtime")?;
    // Inside, because what is bound belongs to the runtime. The journal is recovered before anybody is let in.
    let served = runtime.block_on(serve(&settings, args.addresses_file.as_deref()));
    // What is still in a system call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(settings: &Settings, addresses_file: Option<&Path>) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("cannot listen to signals")?;
    let metrics = Arc::new(Metrics::new(settings.limits.connections_max));
    // First the addresses: a port that is taken should be known before a long recovery.
    let bound = bind_all(settings, &metrics)?;
    let admin_socket = match settings.admin.enabled {
        true => Some(listeners::bind("admin.bind", settings.admin.bind)?),
        false => None,
    };
    let engine = Engine::start(settings)?;

    let shutdown = Shutdown::default();
    let ready = Arc::new(AtomicBool::new(false));
    let admin_stop = CancellationToken::new();
    let mut addresses: BTreeMap<String, SocketAddr> = BTreeMap::new();
    if let Some(socket) = admin_socket {
        addresses.insert("admin".to_owned(), socket.local_addr()?);
        let admin = Admin {
            broker: engine.broker.clone(),
            metrics: metrics.clone(),
            ready: ready.clone(),
        };
        tokio::spawn(admin::serve(admin, socket, admin_stop.clone()));
    }
    let common = Common {
        protocols: Arc::new(protocols::all(settings)?),
        broker: engine.broker.clone(),
        shutdown: shutdown.clone(),
        handshake_max: Duration::from_millis(settings.limits.handshake_ms_max),
    };
    let mut certificates = Vec::new();
    for bound in bound {
        addresses.insert(bound.name.clone(), bound.address);
        certificates.extend(bound.tls().map(|tls| (bound.name.clone(), tls)));
        shutdown.spawn(bound.run(common.clone()));
    }
    warn_of_closed_doors(settings);
    ready.store(true, Ordering::Relaxed);
    banner::print(settings, &addresses);
    if let Some(path) = addresses_file {
        addresses::write(path, &addresses)?;
    }

    let ended = until_stopped(&mut signals, &engine, &certificates).await;
    ready.store(false, Ordering::Relaxed);
    if let Some(path) = addresses_file {
        _ = std::fs::remove_file(path);
    }
    if let Err(error) = ended {
        // Nothing more can be acknowledged. Clients are told, those that listen.
        error!(%error, "stopping");
        shutdown.drain(LAST_WORDS_MAX).await;
        return Err(error);
    }
    let patience = Duration::from_millis(settings.limits.shutdown_ms_max);
    if !shutdown.drain(patience).await {
        warn!("connections did not close in time");
    }
    admin_stop.cancel();
    drop(common);
    let stop = tokio::task::spawn_blocking(move || engine.stop());
    tokio::time::timeout(patience, stop)
        .await
        .context("the journal did not finish in time")???;
    info!("stopped cleanly");
    Ok(())
}

fn bind_all(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Vec<Bound>> {
    settings
        .listeners
        .iter()
        .filter(|(_, listener)| listener.is_enabled())
        .map(|(name, listener)| {
            let connections = metrics.listener(name, listener.connections_max);
            Bound::open(name, listener, connections)
        })
        .collect()
}

/// Waits for the end; reloads certificates meanwhile.
async fn until_stopped(
    signals: &mut Signals,
    engine: &Engine,
    certificates: &[(String, Arc<Tls>)],
) -> anyhow::Result<()> {
    loop {
        let word = tokio::select! {
            word = signals.next() => word,
            error = engine.failed() => return Err(error),
        };
        match word {
            Word::Stop(signal) => {
                info!(signal, "stopping");
                return Ok(());
            }
            Word::Reload => {
                for (listener, tls) in certificates {
                    match tls.reload() {
                        Ok(()) => info!(listener, "certificate read again"),
                        Err(error) => {
                            warn!(
                                listener,
                                error = format!("{error:#}"),
                                "keeping the old certificate"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A listener for other machines that nobody there can pass is most likely a mistake.
fn warn_of_closed_doors(settings: &Settings) {
    if settings.users.values().any(|user| !user.loopback_only) {
        return;
    }
    for (listener, of) in &settings.listeners {
        let remote = of.bind.is_some_and(|bind| !bind.ip().is_loopback());
        if of.is_enabled() && remote && of.anonymous != Some(true) {
            warn!(
                listener,
                "clients on other machines can't log in: there is no user for them, and anonymous is not true"
            );
        }
    }
}

/// Every connection is a file descriptor.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => info!(limit, "file descriptors"),
        Err(error) => warn!(%error, "cannot raise the limit of file descriptors"),
    }
}
