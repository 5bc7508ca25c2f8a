//! Numbers of things, for people.

/// `1 gate`, `2 gates`.
pub(crate) fn counted(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0_u64, "gate"), "0 gates");
        assert_eq!(counted(1_u64, "gate"), "1 gate");
        assert_eq!(counted(2_u64, "gate"), "2 gates");
    }
}
