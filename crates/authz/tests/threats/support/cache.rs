//! A cache of proofs that can be asked what it was asked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use scoregate_authz::{Proof, ProofCache};

#[derive(Default)]
pub(crate) struct Cache {
    proofs: RefCell<HashMap<[u8; 32], Arc<Proof>>>,
    lookups: Cell<usize>,
    hits: Cell<usize>,
}

impl Cache {
    pub(crate) fn len(&self) -> usize {
        self.proofs.borrow().len()
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.get()
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.get()
    }
}

impl ProofCache for Cache {
    fn lookup(&self, token: &[u8; 32]) -> Option<Arc<Proof>> {
        self.lookups.set(self.lookups.get() + 1);
        let found = self.proofs.borrow().get(token).cloned();
        self.hits.set(self.hits.get() + usize::from(found.is_some()));
        found
    }

    fn insert(&self, token: [u8; 32], proof: Arc<Proof>) {
        self.proofs.borrow_mut().insert(token, proof);
    }
}
