//! The trust of connections: the system's authorities, those of `ca_file`, and the server
//! certificates in that file.
//!
//! An appliance's certificate is often self-signed, with a name only in its subject, by tools as
//! old as version 1. The rules of authorities refuse it. If the operator has put that very
//! certificate into `ca_file`, it is trusted byte for byte; that the server holds its key is proved
//! as usual. *Never* loosens anything for any other certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;

use crate::platform::der;

/// Builds the TLS settings, with certificates to trust besides those of the system.
pub(super) fn settings(certificates: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if certificates.iter().any(|one| der::public_key(one).is_none()) {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    }
    // One that cannot sign others may still be trusted itself.
    let is_authority = |one: &&CertificateDer<'static>| {
        RootCertStore::empty().add(CertificateDer::clone(one)).is_ok()
    };
    let roots = certificates.iter().filter(is_authority).cloned();
    let authorities = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let verifier = Pinning { authorities, pinned: certificates, provider: Arc::clone(&provider) };
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

#[derive(Debug)]
struct Pinning {
    authorities: Verifier,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Pinning {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }

    /// Verifies the server's signature with the key of a pinned certificate: the usual way does not
    /// parse a certificate of version 1.
    fn proved_by_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (algorithm, key) = der::public_key(certificate)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let known = mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let known = known.map_or(&[][..], |(_, algorithms)| *algorithms);
        let fitting = known.iter().find(|one| one.public_key_alg_id().as_ref() == algorithm);
        let is_valid = fitting
            .is_some_and(|one| one.verify_signature(key, message, signed.signature()).is_ok());
        match is_valid {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.authorities.verify_server_cert(certificate, others, name, stapled, now) {
            Err(_) if self.is_pinned(certificate) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.authorities.verify_tls12_signature(message, certificate, signed) {
            Err(_) if self.is_pinned(certificate) => {
                self.proved_by_key(message, certificate, signed)
            }
            verified => verified,
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let is_of_1_3 = !matches!(
            signed.scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        );
        match self.authorities.verify_tls13_signature(message, certificate, signed) {
            Err(_) if is_of_1_3 && self.is_pinned(certificate) => {
                self.proved_by_key(message, certificate, signed)
            }
            verified => verified,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
