//! The issuer of a server's certificate, trusted or not.
//!
//! The handshake ends as soon as the certificate was received.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::platform::der::{SEQUENCE, element, expect, from_issuer};

/// Time limit of each step.
const LIMIT: Duration = Duration::from_secs(5);
/// `2.5.4.3`, a common name, and `2.5.4.10`, an organisation.
const NAMES: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// Returns the issuer of the topmost certificate that a server shows.
pub(super) fn issuer(host: &str, port: u16) -> Option<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let witness = Arc::new(Witness { provider: Arc::clone(&provider), issuer: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
    let address = (host.trim_matches(['[', ']']), port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    // Fails by design: the witness trusts no certificate.
    connection.complete_io(&mut stream).err()?;
    witness.issuer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Records a certificate, and trusts none.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    issuer: Mutex<Option<String>>,
}

fn refused() -> Error {
    Error::General("it was only looked at".into())
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let issuer = issuer_of(others.last().unwrap_or(first));
        *self.issuer.lock().unwrap_or_else(PoisonError::into_inner) = issuer;
        Err(refused())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the common name or the organisation of a certificate's issuer.
fn issuer_of(certificate: &[u8]) -> Option<String> {
    let (issuer, _) = expect(from_issuer(certificate)?, SEQUENCE)?;
    NAMES.iter().find_map(|name| attribute(issuer, name))
}

fn attribute(mut names: &[u8], wanted: &[u8]) -> Option<String> {
    while let Some((_, set, rest)) = element(names) {
        names = rest;
        let Some((pair, _)) = expect(set, SEQUENCE) else { continue };
        let Some((_, kind, value)) = element(pair) else { continue };
        if kind == wanted {
            let text = String::from_utf8_lossy(element(value)?.1).into_owned();
            return Some(text.chars().filter(|c| !c.is_control()).take(100).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        let length = u8::try_from(content.len()).expect("short");
        [&[tag, 0x81, length][..], &content].concat()
    }

    #[test]
    fn the_issuer_is_read_from_a_certificate_with_and_without_a_version() {
        let pair = |oid: &[u8], text: &[u8]| {
            let pair = wrap(SEQUENCE, &[&wrap(6, &[oid]), &wrap(0x0C, &[text])]);
            wrap(0x31, &[&pair])
        };
        let organisation = pair(&[0x55, 4, 10], b"Lab");
        let name = wrap(SEQUENCE, &[&organisation, &pair(&[0x55, 4, 3], b"Lab filter CA")]);
        let (version, serial) = (wrap(0xA0, &[&wrap(2, &[&[2]])]), wrap(2, &[&[7]]));
        let algorithm = wrap(SEQUENCE, &[]);
        for front in [&[&version[..], &serial, &algorithm][..], &[&serial[..], &algorithm][..]] {
            let signed = wrap(SEQUENCE, &[&front.concat(), &name]);
            let whole = wrap(SEQUENCE, &[&signed]);
            assert_eq!(issuer_of(&whole).as_deref(), Some("Lab filter CA"));
        }
        let whole = wrap(SEQUENCE, &[&wrap(SEQUENCE, &[&serial, &algorithm, &organisation[2..]])]);
        assert_eq!(issuer_of(&whole), None);
        assert_eq!(issuer_of(b""), None);
        assert_eq!(issuer_of(&[SEQUENCE, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]), None);
    }
}
