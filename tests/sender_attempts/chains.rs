//! Chains of certificates, and servers that ask for ours.

use std::{rc::Rc, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use senderz_gateway::delivery::ErrorCode;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use crate::{
    rig::{OK, Receiver, To, code, detail, none_is_wrong, read_request, run, sender},
    tls::Authority,
};

/// What servers of a test present, made once: an authority signs one in the middle, and that signs.
struct Chain {
    root: Authority,
    middle: CertifiedIssuer<'static, KeyPair>,
}

impl Chain {
    fn new(limit: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = Authority::new();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "In The Middle");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        limit(&mut params);
        let key = KeyPair::generate().unwrap();
        let middle = CertifiedIssuer::signed_by(params, key, root.issuer()).unwrap();
        Self { root, middle }
    }

    /// A server for `name` that presents `more` behind its own certificate.
    fn server(&self, name: &str, more: Vec<CertificateDer<'static>>) -> ServerConfig {
        self.asking(name, more, WebPkiClientVerifier::no_client_auth())
    }

    fn asking(
        &self,
        name: &str,
        more: Vec<CertificateDer<'static>>,
        asks: Arc<dyn ClientCertVerifier>,
    ) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let own = params.signed_by(&key, &self.middle).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = std::iter::once(own.der().clone()).chain(more).collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(asks)
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn middle(&self) -> CertificateDer<'static> {
        self.middle.der().clone()
    }
}

async fn check(chain: Rc<Chain>, server: ServerConfig, expected: &'static str) -> Option<String> {
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let receiver = Receiver::start(move |stream, _, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    })
    .await;
    let to = To::https("localhost", receiver.address.port());
    let done = sender(chain.root.settings()).attempt(to.outgoing()).await;
    let expected_code = (!expected.is_empty()).then_some(ErrorCode::Tls);
    let found = (code(&done), detail(&done));
    (found != (expected_code, expected)).then(|| format!("{found:?} instead of {expected:?}"))
}

#[test]
fn a_chain_is_believed_where_it_leads_to_a_root_in_any_order_and_within_bounds() {
    const INCOMPLETE: &str = "the certificate's issuer is not trusted, or the chain is incomplete";
    let chain = Rc::new(Chain::new(|_| {}));
    let strangers: Vec<_> = (0..3).map(|_| Chain::new(|_| {}).middle()).collect();
    let mixed = [&strangers[..2], &[chain.middle()], &strangers[2..]].concat();
    let table = vec![
        (chain.server("localhost", vec![chain.middle()]), ""),
        (chain.server("localhost", mixed), ""),
        (chain.server("localhost", vec![]), INCOMPLETE),
        // They have the right one's name.
        (chain.server("localhost", strangers.clone()), "the certificate's signature is wrong"),
        // More than a hundred, and more bytes than any handshake may have.
        (
            chain.server("localhost", [&strangers[..]; 100].concat()),
            "the server broke the TLS protocol",
        ),
        // A wildcard stands for one label, and for a whole one.
        (
            chain.server("*.localhost", vec![chain.middle()]),
            "the certificate is for another name (it has *.localhost)",
        ),
        (
            chain.server("local*", vec![chain.middle()]),
            "the certificate is for another name (it has local*)",
        ),
    ];
    run(async {
        none_is_wrong(
            table.into_iter().map(|(server, expected)| check(Rc::clone(&chain), server, expected)),
        )
        .await;
    });
}

#[test]
fn an_authority_vouches_for_no_more_than_it_may() {
    let check = |limit: fn(&mut CertificateParams), expected| {
        let chain = Rc::new(Chain::new(limit));
        let server = chain.server("localhost", vec![chain.middle()]);
        run(async move { none_is_wrong([check(chain, server, expected)]).await });
    };
    check(
        |params| {
            let other = rcgen::GeneralSubtree::DnsName("other.example".to_owned());
            let excluded_subtrees = Vec::new();
            let permitted_subtrees = vec![other];
            let names = rcgen::NameConstraints { permitted_subtrees, excluded_subtrees };
            params.name_constraints = Some(names);
        },
        "the certificate is not acceptable",
    );
    // A server's certificate that signs another one.
    check(|params| params.is_ca = IsCa::NoCa, "the certificate is not acceptable");
}

#[test]
fn a_server_that_wants_a_certificate_of_ours_is_told_apart() {
    run(async {
        let chain = Rc::new(Chain::new(|_| {}));
        let mut roots = RootCertStore::empty();
        roots.add(chain.middle()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots);
        let asks = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        let server = chain.asking("localhost", vec![chain.middle()], asks);
        let words = "the server asks for a client certificate";
        none_is_wrong([check(chain, server, words)]).await;
    });
}
