//! TLS under `wss://`: rustls with ring.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, OtherError, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Most certificates read from one text.
const MAX_CERTIFICATES: usize = 1000;
/// What the library says of an authority's certificate shown by a host, which `openssl req -x509` makes.
const CA_AS_HOST: &str = "CaUsedAsEndEntity";
const WRONG_NAME: &str = "its certificate is for another name: use that name in the URL, or have it get one for the name in the URL";

/// Whom a dialer trusts.
#[derive(Clone)]
pub struct ClientTls(pub(super) TlsConnector);

/// What a listener shows.
#[derive(Clone)]
pub struct ServerTls(pub(super) TlsAcceptor);

impl ClientTls {
    /// Trusts the authorities that Mozilla trusts, and those in `more` (certificates as PEM; may be empty).
    ///
    /// # Errors
    /// [`TlsError`] when `more` holds something else than certificates, or none though it is not empty.
    pub fn new(more: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let more_certificates = certificates(more)?;
        if more_certificates.is_empty() && !more.is_empty() {
            return Err(TlsError::BadCertificate);
        }
        for certificate in more_certificates {
            roots.add(certificate).map_err(|_| TlsError::BadCertificate)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config).into()))
    }
}

impl ServerTls {
    /// From PEM: the certificate with those it was signed by behind it, and its private key.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be read, or they do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        if chain.is_empty() {
            return Err(TlsError::BadCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::BadKey)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        Ok(Self(Arc::new(config).into()))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .take(MAX_CERTIFICATES)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::BadCertificate)
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// Why TLS with somebody failed, and what to do about it; `None` if `error` is not rustls's. Looks through what I/O
/// errors carry.
#[must_use]
pub fn tls_complaint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return tls_complaint(error.get_ref()?);
    }
    let error = error.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(fault) = error else {
        return Some(format!(
            "TLS failed: {error}; see that it is TLS that is spoken at that port"
        ));
    };
    let said = match fault {
        // The second is another authority that goes by the name of one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority that is trusted here vouches for its certificate: name a file with that of its own \
             authority (\"mesh\".\"trust\", --trust), or have it get one from a public authority"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: it has to be renewed there, unless the clock of this machine is wrong"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: set the clock, of this machine or of the one that made it".to_owned()
        }
        CertificateError::NotValidForName => WRONG_NAME.to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => WRONG_NAME.to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("{WRONG_NAME} (it is for {})", presented.join(", "))
        }
        CertificateError::Revoked => "its certificate was revoked: it needs another one".to_owned(),
        CertificateError::Other(OtherError(why)) if why.to_string().contains(CA_AS_HOST) => {
            "its certificate is an authority's (CA:TRUE), not a host's: it needs one with CA:FALSE".to_owned()
        }
        _ => format!("its certificate cannot be used ({error}): it needs another one"),
    };
    Some(said)
}

/// Why TLS cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// What should be certificates is not.
    #[error("there is no usable certificate in PEM format in it")]
    BadCertificate,
    /// What should be a private key is not.
    #[error("there is no private key in PEM format in it")]
    BadKey,
    /// The library refuses them, for this reason.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(String),
}
