//! A CA, and certificates of it in files.

use std::ops::Range;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

use super::new_path;

/// A CA that exists for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    pub(crate) ca: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a CA for one test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let ca = new_path("ca.pem");
        std::fs::write(&ca, &certificate).unwrap();
        Self { issuer: Issuer::new(params, key), certificate, ca }
    }

    /// A certificate for these names: a URI, an IP address or a DNS name each.
    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        self.identity_in(names, 1975..4096)
    }

    /// The same, good from the beginning of a year until that of another.
    pub(crate) fn identity_in(&self, names: &[&str], years: Range<i32>) -> Identity {
        let name = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(name).collect();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let identity = Identity { certificate: new_path("cert.pem"), key: new_path("key.pem") };
        std::fs::write(&identity.certificate, certificate).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    /// Puts another CA's certificate beside this one's in the file.
    pub(crate) fn admit(&self, other: &Self) {
        std::fs::write(&self.ca, format!("{}{}", self.certificate, other.certificate)).unwrap();
    }
}

/// A path as a text that lives as long as the tests.
pub(crate) fn text(path: &std::path::Path) -> &'static str {
    path.to_str().unwrap().to_owned().leak()
}
