//! TLS for listeners: certificates read from files, and read again on SIGHUP.

use crate::config::TlsSettings;
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use omnilog_wire::{Stream, TlsPeer};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// A listener's TLS. Connections take the configuration of the moment they are accepted.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    pub(crate) fn open(settings: &TlsSettings) -> anyhow::Result<Self> {
        Ok(Self {
            settings: settings.clone(),
            config: ArcSwap::from_pointee(read(settings)?),
        })
    }

    /// Reads the files again. What is wrong with them leaves the old configuration in force.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.config.store(Arc::new(read(&self.settings)?));
        Ok(())
    }

    /// The handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<(Stream, TlsPeer)> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let stream = acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let peer = TlsPeer {
            certificate: session
                .peer_certificates()
                .and_then(<[_]>::first)
                .map(|certificate| certificate.to_vec()),
            server_name: session.server_name().map(str::to_owned),
        };
        Ok((Stream::Tls(Box::new(stream)), peer))
    }
}

/// Reads certificate, key and client CAs.
pub(crate) fn read(settings: &TlsSettings) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .with_context(|| format!("{}", path.display()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .with_context(|| format!("no private key in {}", settings.key.display()))?;
    builder
        .with_single_cert(certificates(&settings.cert)?, key)
        .with_context(|| {
            format!(
                "{} and {} do not make a server certificate",
                settings.cert.display(),
                settings.key.display()
            )
        })
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("no certificates in {}", path.display()))?;
    if certificates.is_empty() {
        bail!("no certificates in {}", path.display());
    }
    Ok(certificates)
}
