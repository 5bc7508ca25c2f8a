//! When the certificates of a process's listeners expire.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::tls::ServerTls;

/// Asked when metrics are read: a certificate may have been renewed since the last time.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates(Arc<Mutex<Vec<Listener>>>);

#[derive(Debug)]
struct Listener {
    name: &'static str,
    tls: Option<ServerTls>,
}

impl Certificates {
    pub(super) fn add(&self, name: &'static str, tls: Option<ServerTls>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Listener { name, tls });
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a listener expires, in seconds since 1970; NaN for one without TLS",
            None,
            MetricType::Gauge,
        )?;
        for Listener { name, tls } in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let expires = tls.as_ref().and_then(ServerTls::expires);
            let gauge = ConstGauge::new(expires.map_or(f64::NAN, |time| time.as_secs_f64()));
            gauge.encode(family.encode_family(&[("listener", *name)])?)?;
        }
        Ok(())
    }
}
