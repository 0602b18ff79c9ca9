//! TLS towards receivers: who is trusted, and what is offered.
//!
//! One configuration serves a whole shard. Sessions are not resumed: a ticket would let a server
//! tie the requests of two tenants together, and connections are kept open instead. There are no
//! client certificates. Revocation is not checked online: a blocking look-up for each handshake
//! would let a third party slow down every delivery.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{SenderError, Settings};

/// What HTTP/2 is called in ALPN.
pub(super) const H2: &[u8] = b"h2";

pub(super) fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, SenderError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SenderError::Tls)?
        .with_root_certificates(roots(settings)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The system's roots and the operator's. A root of the system's that cannot be read is left out
/// and reported; one of the operator's is an error.
fn roots(settings: &Settings) -> Result<RootCertStore, SenderError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a root certificate of the system is not usable");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(file) = &settings.ca_file {
        add_operators(&mut roots, file)?;
    }
    if roots.is_empty() {
        tracing::warn!("no root certificate found: no https webhook can be reached");
    }
    Ok(roots)
}

/// Whether the operator's file of certificates can be used.
pub fn check_ca_file(file: &Path) -> Result<(), SenderError> {
    add_operators(&mut RootCertStore::empty(), file)
}

fn add_operators(roots: &mut RootCertStore, file: &Path) -> Result<(), SenderError> {
    let unreadable = |why: String| SenderError::CaFile { file: file.to_owned(), why };
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
