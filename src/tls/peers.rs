//! Who may be at the other end of a connection, by the names in its certificate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::EndEntityCert;

use super::Log;

/// A name in a certificate: a URI such as a SPIFFE id, or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PeerName {
    Uri(String),
    /// All URIs below this one, which ends with a slash.
    UrisBelow(String),
    Dns(String),
}

/// A text that names no peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a URI such as `spiffe://cluster.local/ns/models/sa/envoy`, with `/*` at its end for all below it, \
     nor `dns:NAME`"
)]
pub struct InvalidPeerName(String);

impl FromStr for PeerName {
    type Err = InvalidPeerName;

    fn from_str(text: &str) -> Result<Self, InvalidPeerName> {
        let invalid = || InvalidPeerName(text.to_owned());
        if let Some(name) = text.strip_prefix("dns:") {
            let name = name.to_ascii_lowercase();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            return if !name.is_empty() && name.bytes().all(allowed) {
                Ok(Self::Dns(name))
            } else {
                Err(invalid())
            };
        }
        let (above, below) = match text.strip_suffix('*') {
            Some(above) => (above, true),
            None => (text, false),
        };
        let authority =
            above.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
        let is_uri = authority.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && above.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
        match (is_uri, below) {
            (true, false) => Ok(Self::Uri(above.to_owned())),
            (true, true) if above.ends_with('/') => Ok(Self::UrisBelow(above.to_owned())),
            _ => Err(invalid()),
        }
    }
}

impl PeerName {
    /// The name as it is in the certificate, if one of the certificate's is this.
    fn find(&self, certificate: &EndEntityCert<'_>) -> Option<String> {
        match self {
            Self::Uri(wanted) => certificate.valid_uri_names().find(|uri| uri == wanted).map(str::to_owned),
            Self::UrisBelow(above) => {
                let below = |uri: &&str| uri.len() > above.len() && uri.starts_with(above.as_str());
                certificate.valid_uri_names().find(below).map(str::to_owned)
            }
            Self::Dns(wanted) => {
                let found = certificate.valid_dns_names().any(|name| name.eq_ignore_ascii_case(wanted));
                found.then(|| format!("dns:{wanted}"))
            }
        }
    }
}

/// Those who may connect, of those whom the CA knows. None in particular: all of them.
#[derive(Debug, Clone, Default)]
pub struct AllowedPeers(Vec<PeerName>);

impl AllowedPeers {
    /// Reads a list of names.
    ///
    /// # Errors
    /// One is none.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPeerName> {
        names.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether all whom the CA knows may connect.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.is_empty()
    }

    /// By which of their names a peer is allowed.
    fn identify(&self, certificate: &CertificateDer<'_>) -> Option<PeerIdentity> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let listed = || self.0.iter().find_map(|name| name.find(&certificate));
        let any = || {
            let uri = certificate.valid_uri_names().next().map(str::to_owned);
            let dns = || certificate.valid_dns_names().next().map(|name| format!("dns:{name}"));
            Some(uri.or_else(dns).unwrap_or_default())
        };
        let name = if self.0.is_empty() { any() } else { listed() };
        name.map(|name| PeerIdentity(name.into()))
    }
}

/// The name of a peer that proved it with its certificate; empty where the certificate has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity(Arc<str>);

impl PeerIdentity {
    /// A URI, or `dns:NAME`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All of a certificate's names, as `allowed_peers` would have them.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris = certificate.valid_uri_names().map(str::to_owned);
    uris.chain(certificate.valid_dns_names().map(|name| format!("dns:{name}"))).collect()
}

/// Lets those in whom a CA knows and who are allowed by name.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    known: Arc<dyn ClientCertVerifier>,
    allowed: AllowedPeers,
    log: Log,
}

impl Doorkeeper {
    pub(super) fn new(known: Arc<dyn ClientCertVerifier>, allowed: AllowedPeers) -> Self {
        Self { known, allowed, log: Log::default() }
    }

    /// Who has this certificate, which was verified.
    pub(super) fn identify(&self, certificate: &CertificateDer<'_>) -> Option<PeerIdentity> {
        self.allowed.identify(certificate)
    }
}

impl ClientCertVerifier for Doorkeeper {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.known.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.known.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.known.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.known.verify_client_cert(end_entity, intermediates, now)?;
        match self.identify(end_entity) {
            Some(_) => Ok(verified),
            None => {
                let names = names(end_entity);
                self.log.write(|left_out| {
                    tracing::warn!(
                        ?names,
                        left_out,
                        "a client was turned away: `allowed_peers` has none of its names"
                    );
                });
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.known.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.known.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rstest::rstest;

    const ENVOY: &str = "spiffe://cluster.local/ns/models/sa/envoy";

    fn certificate(uris: &[&str], names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[rstest]
    #[case(&[ENVOY], Some(ENVOY))]
    #[case(&["spiffe://cluster.local/ns/models/*"], Some(ENVOY))]
    #[case(&["spiffe://cluster.local/*"], Some(ENVOY))]
    #[case(&["dns:other", "dns:Envoy.Models"], Some("dns:envoy.models"))]
    #[case(&["spiffe://cluster.local/ns/models/sa/env"], None)]
    #[case(&["spiffe://cluster.local/ns/models/sa/envoy/*"], None)]
    #[case(&["spiffe://other/*", "dns:models"], None)]
    #[case(&[], Some(ENVOY))]
    fn peer_is_identified_by_a_name_that_is_allowed(
        #[case] allowed: &[&str],
        #[case] expected: Option<&str>,
    ) {
        let allowed = AllowedPeers::new(allowed.iter().copied()).unwrap();
        let found = allowed.identify(&certificate(&[ENVOY], &["envoy.models"]));
        assert_eq!(found.as_ref().map(PeerIdentity::as_str), expected);
    }

    #[test]
    fn certificate_without_names_is_none_that_is_listed() {
        let nameless = certificate(&[], &[]);
        let listed = AllowedPeers::new([ENVOY]).unwrap();
        assert_eq!(listed.identify(&nameless), None);
        assert_eq!(AllowedPeers::default().identify(&nameless).unwrap().as_str(), "");
    }

    #[rstest]
    #[case("envoy")]
    #[case("")]
    #[case("*")]
    #[case("dns:")]
    #[case("dns:*.example.com")]
    #[case("spiffe://")]
    #[case("spiffe:///path")]
    #[case("spiffe://cluster*")]
    #[case("spiffe://cluster/*/sa")]
    #[case("://cluster")]
    fn what_names_no_peer_is_refused(#[case] text: &str) {
        assert!(AllowedPeers::new([text]).is_err());
    }
}
