//! Chance, for what should not happen everywhere at once.

/// A number that other processes do not choose; zero where the system gives no randomness.
pub(crate) fn process_number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// Zeros where the system gives no randomness.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => bytes,
        Err(_) => [0; N],
    }
}

/// At least 0, below 1.
pub(crate) fn fraction() -> f64 {
    // Without randomness everything happens a little more at once, and nothing else changes.
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
