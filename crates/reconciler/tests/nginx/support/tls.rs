//! Certificates, and clients that look at them.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Identity {
    /// The certificate, and those between it and the root.
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    key: KeyPair,
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    pub fn new() -> Self {
        Self(CertifiedIssuer::self_signed(authority_params(), KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, names: &[&str]) -> Identity {
        issue(&self.0, names)
    }

    /// A certificate that another authority signed, which this one did.
    pub fn issue_through_another(&self, names: &[&str]) -> Identity {
        let mut params = authority_params();
        params.distinguished_name.push(DnType::CommonName, "between");
        let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap();
        let mut identity = issue(&between, names);
        identity.chain.push(between.der().clone());
        identity.chain_pem += &between.pem();
        identity
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names).unwrap();
    // Not that of its issuer, which would look as if it had signed itself.
    params.distinguished_name.push(DnType::CommonName, "somebody");
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity { chain: vec![certificate.der().clone()], chain_pem: certificate.pem(), key }
}

impl Identity {
    pub fn certificate_pem(&self) -> &str {
        &self.chain_pem
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    /// For a server.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key_der())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Whether the other side of a connection showed this.
    pub fn was_shown_to(&self, stream: &TlsStream<TcpStream>) -> bool {
        stream.get_ref().1.peer_certificates() == Some(&*self.chain)
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Without a certificate of its own.
    pub fn trusting(authority: &Authority) -> Self {
        Self::new(authority, None)
    }

    pub fn with_certificate(authority: &Authority, identity: &Identity) -> Self {
        Self::new(authority, Some(identity))
    }

    fn new(authority: &Authority, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Self(Arc::new(match identity {
            None => config.with_no_client_auth(),
            Some(identity) => config.with_client_auth_cert(identity.chain.clone(), identity.key_der()).unwrap(),
        }))
    }

    /// The same, but it does not say which name it wants.
    pub fn without_name(&self) -> Self {
        let mut config = (*self.0).clone();
        config.enable_sni = false;
        Self(Arc::new(config))
    }

    /// The same, offering these protocols.
    pub fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    pub async fn handshake(&self, stream: TcpStream, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}
