//! The parameter `count` of lists.

use std::num::IntErrorKind;

use super::error::ApiError;

/// The size of a page unless told.
pub(super) const DEFAULT: u32 = 50;
const LARGEST: u32 = 500;

/// Reads it. More than the largest page is that page: what is left comes with the next one.
///
/// # Errors
/// It is no number, or 0; `items` are what would be counted.
pub(super) fn read(text: &str, items: &str) -> Result<u32, ApiError> {
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count.min(LARGEST)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Ok(LARGEST),
        _ => Err(ApiError::invalid("count", format!("must be a number of {items}, 1 or more"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1", Some(1))]
    #[case("500", Some(500))]
    #[case("501", Some(500))]
    #[case("99999999999", Some(500))]
    #[case("0", None)]
    #[case("-1", None)]
    #[case("-99999999999", None)]
    #[case("", None)]
    #[case("many", None)]
    fn read_takes_numbers_up_to_the_largest(#[case] text: &str, #[case] expected: Option<u32>) {
        assert_eq!(read(text, "services").ok(), expected);
    }
}
