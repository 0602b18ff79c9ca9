//! A certificate for the receivers of one run, and who trusts it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::Protocol;

const CERTIFICATE: &str = "receiver.pem";
const KEY: &str = "receiver.key";

/// Makes a certificate for 127.0.0.1 in this directory; it is its own authority.
pub(crate) fn make(dir: &Path) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(dir.join(CERTIFICATE), made.cert.pem())?;
    std::fs::write(dir.join(KEY), made.signing_key.serialize_pem())?;
    Ok(())
}

pub(crate) fn ca_file(dir: &Path) -> PathBuf {
    dir.join(CERTIFICATE)
}

pub(crate) fn server(dir: &Path, protocol: Protocol) -> anyhow::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(dir.join(CERTIFICATE))?;
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let offered: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![offered.to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn client(dir: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let file = CertificateDer::from_pem_file(dir.join(CERTIFICATE));
    roots.add(file.context("the receiver's certificate")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
