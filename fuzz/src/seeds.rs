//! Inputs to begin with: good ones, because no fuzzer guesses a key or a signature.

use std::path::Path;

/// Puts inputs into the corpus of a target, before libFuzzer reads it.
pub fn plant(target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&corpus).expect("the corpus can be made");
    for (number, input) in inputs.into_iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), input).expect("the corpus can be written");
    }
}
