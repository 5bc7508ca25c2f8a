//! What the fuzz targets share: one small world, always the same, so that a found input stays found.

pub mod second_opinion;
pub mod seeds;
pub mod signer;
pub mod world;
