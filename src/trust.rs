//! Whom TLS trusts where the gateway is the client: the system's roots, and the operator's.
//!
//! Sessions are not resumed: a ticket would let a server tie the requests of two tenants together,
//! and connections are kept open instead. There are no client certificates. Revocation is not
//! checked online: a blocking look-up for each handshake would let a third party slow down every
//! delivery.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme, WantsVerifier,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot use the certificates in {file}: {why}")]
    CaFile { file: PathBuf, why: String },
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// A client that offers these protocols.
pub fn client_config(ca_file: Option<&Path>, alpn: &[&[u8]]) -> Result<ClientConfig, TrustError> {
    let mut config = builder()?.with_root_certificates(roots(ca_file)?).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A client of the one server whose certificate is the first in this file, whatever its names: for
/// commands beside a gateway, which know it by its file and call it by an address.
pub fn client_of(chain: &Path) -> Result<ClientConfig, TrustError> {
    let unreadable = |why: String| TrustError::CaFile { file: chain.to_owned(), why };
    let certificate =
        CertificateDer::from_pem_file(chain).map_err(|error| unreadable(error.to_string()))?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let verifier = Arc::new(Exactly { certificate, algorithms });
    let mut config =
        builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)
}

/// Takes one certificate and no other; that the server has its key, the handshake's signature says.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A root of the system's that cannot be read is left out and reported; one of the operator's is
/// an error.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a root certificate of the system is not usable");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(file) = ca_file {
        add_operators(&mut roots, file)?;
    }
    if roots.is_empty() {
        tracing::warn!("no root certificate found: nothing can be reached by https");
    }
    Ok(roots)
}

/// Whether the operator's file of certificates can be used.
pub fn check_ca_file(file: &Path) -> Result<(), TrustError> {
    add_operators(&mut RootCertStore::empty(), file)
}

fn add_operators(roots: &mut RootCertStore, file: &Path) -> Result<(), TrustError> {
    let unreadable = |why: String| TrustError::CaFile { file: file.to_owned(), why };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|e| unreadable(e.to_string()))?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unreadable(e.to_string()))?;
    }
    if roots.len() == before {
        return Err(unreadable("it has no certificate".to_owned()));
    }
    Ok(())
}
