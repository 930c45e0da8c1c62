//! Every example configuration starts; bad ones are refused by key and line.

use super::process::{Server, run};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().canonicalize().unwrap())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

/// Certificates for those that want some.
pub(crate) fn write_certificates(dir: &Path) {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    fs::write(dir.join("ca.pem"), ca_cert.pem()).unwrap();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    for name in ["cert", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
        let key_name = if name == "cert" { "key" } else { "client-key" };
        fs::write(dir.join(format!("{key_name}.pem")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn every_example_starts() {
    let examples = examples();
    assert!(examples.len() >= 5);
    for path in examples {
        let dir = TempDir::new().unwrap();
        write_certificates(dir.path());
        let text = fs::read_to_string(&path).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let mut args = vec![format!("--config={}", path.display())];
        let listeners = table.get("listeners").and_then(toml::Value::as_table);
        for name in listeners.into_iter().flat_map(toml::Table::keys) {
            args.push(format!("--set=listeners.{name}.bind=127.0.0.1:0"));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let server = Server::start_in(dir, &args);
        assert_eq!(
            server.get("/readyz").0,
            "HTTP/1.1 200 OK",
            "{}",
            path.display()
        );
        let (status, _) = server.stop();
        assert_eq!(status.code(), Some(0), "{}", path.display());
    }
}

#[test]
fn a_bad_configuration_is_refused_by_key_and_line() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("bad.toml"),
        "[admin]\nbnd = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    for args in [
        &["serve", "--config", "bad.toml"][..],
        &["config", "check", "--config", "bad.toml"],
    ] {
        let (status, _, stderr) = run(dir.path(), args);
        assert_eq!(status.code(), Some(1));
        assert!(
            stderr.contains("bad.toml:2: admin.bnd: unknown field"),
            "{stderr}"
        );
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_hash_made_here_is_accepted_here() {
    use std::io::Write;
    let dir = TempDir::new().unwrap();
    let mut child = super::process::command(dir.path(), &["config", "hash-password"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    let set = format!("--set=users.ann.argon2={}", hash.trim());
    let (status, _, stderr) = run(dir.path(), &["config", "check", &set]);
    assert_eq!(status.code(), Some(0), "{stderr}");
}
