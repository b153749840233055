//! The certificate of the far side, made for each run, and the two ends that use it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Where certificate and key are; both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Signs itself, so it is also what clients trust.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Files {
    /// Names the files of a directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { certificate: directory.join("ca.pem"), key: directory.join("key.pem") }
    }
}

/// Makes a certificate for this machine's own address.
pub(crate) fn make(directory: &Path) -> io::Result<Files> {
    let files = Files::of(directory);
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let pem = |name: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", lines.join("\n"))
    };
    fs::write(&files.certificate, pem("CERTIFICATE", made.cert.der()))?;
    fs::write(&files.key, pem("PRIVATE KEY", made.signing_key.serialized_der()))?;
    Ok(files)
}

/// How the far side speaks.
pub(crate) fn server(files: &Files) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::from_pem_file(&files.certificate).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How the bare pipeline speaks.
pub(crate) fn client(certificate: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    roots.add(found).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Whom the bare pipeline expects.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}
