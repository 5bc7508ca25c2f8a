//! TLS of listeners and clients, from what is written to what can be used.

use rustls::pki_types::ServerName;

use super::shape;
use super::{ConfigError, Problem, Sources};
use crate::listen::ListenAddress;
use crate::tls::{AllowedPeers, ClientFiles, ClientTls, Clients, ServerTls, TlsError, TlsFiles};

/// What a listener asks of its clients, where it knows a CA of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    /// A certificate, before anything else.
    Needed,
    /// Some routes are for all.
    ForSomeRoutes,
    /// A certificate says who a gate is, and a credential does as well. Names are needed: not everybody whom a CA knows
    /// is a gate.
    OrCredential,
}

/// A table of keys about a listener's TLS.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) sources: &'a Sources,
    pub(super) name: &'static str,
    pub(super) shape: &'a shape::ServerTls,
    pub(super) insecure: bool,
}

impl Table<'_> {
    /// What it holds; `None` if nothing is set.
    pub(super) fn server(&self, certificates: Certificates) -> Result<Option<ServerTls>, ConfigError> {
        let tls = self.shape;
        let files = files(self.sources, self.name, tls.certificate_file.as_ref(), tls.key_file.as_ref())?;
        let Some(files) = files else {
            let idle = tls.client_ca_file.is_some() || !tls.allowed_peers.is_empty();
            return if idle {
                Err(self.missing("certificate_file", "what the server proves itself with"))
            } else {
                Ok(None)
            };
        };
        let clients = self.clients(certificates)?;
        ServerTls::load(files, clients).map(Some).map_err(|error| self.refused(error))
    }

    fn clients(&self, certificates: Certificates) -> Result<Option<Clients>, ConfigError> {
        let names = self.shape.allowed_peers.iter().map(String::as_str);
        let allowed = AllowedPeers::new(names)
            .map_err(|error| self.error("allowed_peers", Problem::Form(error.to_string())))?;
        let Some(ca) = &self.shape.client_ca_file else {
            if allowed.are_all() {
                return Ok(None);
            }
            return Err(self.missing("client_ca_file", "the CA of the clients that `allowed_peers` names"));
        };
        if certificates == Certificates::OrCredential && allowed.are_all() {
            return Err(
                self.missing("allowed_peers", "the names of gates: not everybody whom the CA knows is one")
            );
        }
        Ok(Some(Clients { ca: ca.into(), allowed, optional: certificates != Certificates::Needed }))
    }

    /// An address that others can reach only over TLS, or if the operator said so.
    pub(super) fn listen(
        &self,
        key: &str,
        text: &str,
        tls: Option<&ServerTls>,
    ) -> Result<ListenAddress, ConfigError> {
        self.address(key, text, |address| {
            if tls.is_some() { Ok(address) } else { Err(Problem::Insecure { address, table: self.name }) }
        })
    }

    /// The same where clients must prove themselves, too.
    pub(super) fn listen_for_known(
        &self,
        key: &str,
        text: &str,
        tls: Option<&ServerTls>,
    ) -> Result<ListenAddress, ConfigError> {
        self.address(key, text, |address| match tls {
            Some(tls) if tls.knows_clients() => Ok(address),
            Some(_) => Err(Problem::WithoutClientCertificates { address, table: self.name }),
            None => Err(Problem::Insecure { address, table: self.name }),
        })
    }

    fn address(
        &self,
        key: &str,
        text: &str,
        admit: impl FnOnce(ListenAddress) -> Result<ListenAddress, Problem>,
    ) -> Result<ListenAddress, ConfigError> {
        let address: Result<ListenAddress, _> = text.parse();
        let address = address.map_err(|error| self.sources.error(key, Problem::Form(error.to_string())))?;
        if address.is_local() || self.insecure {
            return Ok(address);
        }
        admit(address).map_err(|problem| self.sources.error(key, problem))
    }

    fn refused(&self, error: TlsError) -> ConfigError {
        refused(self.sources, self.name, "client_ca_file", error)
    }

    fn missing(&self, key: &str, what: &'static str) -> ConfigError {
        self.error(key, Problem::Missing(what))
    }

    fn error(&self, key: &str, problem: Problem) -> ConfigError {
        self.sources.error(&format!("{}.{key}", self.name), problem)
    }
}

/// The files of a client; `None` if no TLS is set.
pub(super) fn client_files(
    sources: &Sources,
    table: &str,
    tls: &shape::ClientTls,
) -> Result<Option<ClientFiles>, ConfigError> {
    let identity = files(sources, table, tls.certificate_file.as_ref(), tls.key_file.as_ref())?;
    let Some(ca) = &tls.ca_file else {
        if identity.is_none() && tls.server_name.is_none() {
            return Ok(None);
        }
        let missing = Problem::Missing("the CAs that are trusted; without them there is no TLS");
        return Err(sources.error(&format!("{table}.ca_file"), missing));
    };
    let files = ClientFiles { ca: ca.into(), identity };
    // What is wrong is found at the start, also where it is read anew for each use.
    load(sources, table, &files, None).map(|_| Some(files))
}

/// A client's TLS; `None` if none is set.
pub(super) fn client(
    sources: &Sources,
    table: &str,
    tls: &shape::ClientTls,
) -> Result<Option<ClientTls>, ConfigError> {
    let Some(files) = client_files(sources, table, tls)? else { return Ok(None) };
    let name = tls.server_name.as_ref().map(|name| ServerName::try_from(name.clone())).transpose();
    let name = name
        .map_err(|error| sources.error(&format!("{table}.server_name"), Problem::Form(error.to_string())))?;
    load(sources, table, &files, name).map(Some)
}

fn load(
    sources: &Sources,
    table: &str,
    files: &ClientFiles,
    name: Option<ServerName<'static>>,
) -> Result<ClientTls, ConfigError> {
    ClientTls::load(files.clone(), name).map_err(|error| refused(sources, table, "ca_file", error))
}

fn refused(sources: &Sources, table: &str, authority: &str, error: TlsError) -> ConfigError {
    let key = match error {
        TlsError::Certificate { .. } => "certificate_file",
        TlsError::Key { .. } => "key_file",
        TlsError::Authority { .. } => authority,
    };
    sources.error(&format!("{table}.{key}"), Problem::Tls(error))
}

/// Certificate and key: both or none.
fn files(
    sources: &Sources,
    table: &str,
    certificate: Option<&String>,
    key: Option<&String>,
) -> Result<Option<TlsFiles>, ConfigError> {
    let missing = |name: &str| {
        let missing = Problem::Missing("certificate and key go together, or neither");
        sources.error(&format!("{table}.{name}"), missing)
    };
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing("key_file")),
        (None, Some(_)) => Err(missing("certificate_file")),
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate: certificate.into(), key: key.into() }))
        }
    }
}
