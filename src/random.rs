//! Chance, for what should not happen everywhere at once.

/// A number that other processes do not choose; zero where the system gives no randomness.
pub(crate) fn process_number() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

/// At least 0, below 1.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness everything happens a little more at once, and nothing else changes.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
