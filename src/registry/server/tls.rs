//! The certificate of a registry.

use crate::common::bounded_read;
use crate::common::error::{Error, Result};
use crate::common::root::Root;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// The largest file of certificates or keys, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The certificate and key with which a registry speaks TLS.
#[derive(Debug, Clone)]
pub struct ServerTls(pub(super) Arc<ServerConfig>);

impl ServerTls {
    /// Reads the certificate, followed by those of its authorities, and its private key, each in PEM.
    ///
    /// # Errors
    /// Fails if a file cannot be read, is malformed, or the key does not belong to the certificate.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let (certificate_name, key_name) = (certificate.display().to_string(), key.display().to_string());
        let bytes = bounded_read::read(Root::open_named_file(certificate)?, LARGEST_FILE, &certificate_name)?;
        let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = certificates.map_err(|_| Error::invalid(&certificate_name, "malformed PEM"))?;
        if certificates.is_empty() {
            return Err(Error::invalid(&certificate_name, "has no PEM certificate"));
        }
        let bytes = bounded_read::read(Root::open_named_file(key)?, LARGEST_FILE, &key_name)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => Error::invalid(&key_name, "has no private key in PEM without a passphrase"),
            _ => Error::invalid(&key_name, "malformed PEM"),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Error::invalid(&key_name, format!("not the key of {certificate_name}"))
            }
            error => Error::invalid(&certificate_name, format!("cannot be used for TLS: {error}")),
        };
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ServerTls(Arc::new(config)))
    }
}
