//! Prometheus metrics. Series are resolved when a process starts; no label ever comes from input.

mod certificates;
mod histogram;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

pub(crate) use histogram::{AtomicHistogram, OF_CHANGES, OF_CHECKS};

use self::certificates::Certificates;
use crate::tls::ServerTls;

/// The metrics of a process, shared by those who register and the one who shows them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    certificates: Certificates,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self { registry: Arc::default(), certificates: Certificates::default() };
        metrics.register(|registry| registry.register_collector(Box::new(metrics.certificates.clone())));
        metrics
    }
}

impl Metrics {
    /// Shows when the certificate of this listener expires.
    pub fn add_certificate(&self, listener: &'static str, tls: Option<&ServerTls>) {
        self.certificates.add(listener, tls.cloned());
    }

    /// Registers metrics; names get the prefix `scoregate`.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix("scoregate"))
    }

    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn render(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}
