//! Calls to a check port, as Envoy makes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use scoregate::proto::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use scoregate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest, attribute_context};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::transport::{Channel, Endpoint};

use crate::workspace::{Failure, Outcome, key, name};

/// As many as Envoy has with two threads.
const CONNECTIONS: usize = 2;
const TICK: Duration = Duration::from_millis(1);

/// A check port. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Checks(Vec<AuthorizationClient<Channel>>);

impl Checks {
    pub(crate) async fn connect(address: &str) -> Outcome<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(AuthorizationClient::new(endpoint.connect().await?));
        }
        Ok(Self(connections))
    }

    /// A call of a service with its key, which must be allowed.
    pub(crate) async fn once(&self, service: usize) -> Outcome<()> {
        let mut client = self.0[service % CONNECTIONS].clone();
        let answer = client.check(request(service)).await?.into_inner();
        match answer.status {
            Some(status) if status.code == 0 => Ok(()),
            other => Err(format!("the call of service {service} was not allowed: {other:?}").into()),
        }
    }

    /// Calls at a fixed rate, whatever the answers take; how long each took.
    pub(crate) async fn at_rate(
        &self,
        rate: usize,
        services: usize,
        length: Duration,
    ) -> Outcome<Vec<Duration>> {
        let times = Arc::new(Mutex::new(Vec::new()));
        let mut calls: JoinSet<Outcome<()>> = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let a_tick = rate / 1_000;
        let mut number = 0_usize;
        for _ in 0..length.as_millis() {
            ticks.tick().await;
            for _ in 0..a_tick {
                // A prime, so that neighbours in memory are not asked for one after the other.
                number += 7_919;
                let (checks, times, service) = (self.clone(), Arc::clone(&times), number % services);
                calls.spawn(async move {
                    let began = Instant::now();
                    checks.once(service).await?;
                    times.lock().unwrap_or_else(PoisonError::into_inner).push(began.elapsed());
                    Ok(())
                });
            }
            while let Some(ended) = calls.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = calls.join_next().await {
            ended??;
        }
        let times = Arc::into_inner(times).ok_or("a call has not ended")?;
        Ok::<_, Failure>(times.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn request(service: usize) -> CheckRequest {
    let http = attribute_context::HttpRequest {
        id: "1".to_owned(),
        method: "POST".to_owned(),
        path: "/score".to_owned(),
        host: "models.example.com".to_owned(),
        headers: HashMap::from([("authorization".to_owned(), format!("Bearer {}", key(service)))]),
        ..attribute_context::HttpRequest::default()
    };
    let request = attribute_context::Request { http: Some(http) };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(request),
            context_extensions: HashMap::from([("service".to_owned(), name(service))]),
        }),
    }
}
