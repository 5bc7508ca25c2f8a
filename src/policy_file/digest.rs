//! A key digest as it stands in a file.

use std::fmt;

use serde::Serialize;

/// The digest of a key, and which pepper it is under.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Digest {
    digest: String,
    pepper_id: String,
}

impl Digest {
    pub(crate) fn new(digest: &[u8], pepper_id: &str) -> Self {
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest, pepper_id: pepper_id.to_owned() }
    }
}

/// On one line, for any place in a file. In quotes: digits alone would be a number to other readers of YAML.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, pepper_id } = self;
        write!(f, "{{ digest: \"{digest}\", pepperId: \"{pepper_id}\" }}")
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digest").field("pepper_id", &self.pepper_id).finish_non_exhaustive()
    }
}
