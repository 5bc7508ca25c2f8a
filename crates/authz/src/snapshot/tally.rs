//! What there is of services, counted as they come and go: nobody has to look at all of them to know.

use std::sync::Arc;

use imbl::OrdMap;

use crate::policy::Service;
use crate::service::{AuthMode, ServiceUid};

/// Services by auth mode, those whose policy is invalid, and those that are, or were, in shadow.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    disabled: usize,
    key: usize,
    token: usize,
    invalid: OrdMap<ServiceUid, Arc<Service>>,
    shadows: OrdMap<ServiceUid, Arc<Service>>,
}

impl Tally {
    pub(super) fn add(&mut self, service: &Arc<Service>) {
        match service.auth_mode() {
            Some(mode) => *self.count(mode) += 1,
            None => drop(self.invalid.insert(service.uid().clone(), Arc::clone(service))),
        }
        if service.shadow_until().is_some() {
            self.shadows.insert(service.uid().clone(), Arc::clone(service));
        }
    }

    pub(super) fn remove(&mut self, service: &Service) {
        match service.auth_mode() {
            Some(mode) => *self.count(mode) -= 1,
            None => drop(self.invalid.remove(service.uid())),
        }
        self.shadows.remove(service.uid());
    }

    /// How many there are of a mode; of `None`, how many are invalid.
    pub(super) fn of(&self, mode: Option<AuthMode>) -> usize {
        match mode {
            Some(AuthMode::Disabled) => self.disabled,
            Some(AuthMode::Key) => self.key,
            Some(AuthMode::Token) => self.token,
            None => self.invalid.len(),
        }
    }

    pub(super) fn invalid(&self) -> impl Iterator<Item = &Service> {
        self.invalid.values().map(AsRef::as_ref)
    }

    pub(super) fn shadows(&self) -> impl Iterator<Item = &Service> {
        self.shadows.values().map(AsRef::as_ref)
    }

    fn count(&mut self, mode: AuthMode) -> &mut usize {
        match mode {
            AuthMode::Disabled => &mut self.disabled,
            AuthMode::Key => &mut self.key,
            AuthMode::Token => &mut self.token,
        }
    }
}
