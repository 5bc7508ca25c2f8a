//! Where a service says that its model is scored.

/// The tag by which a service names the address under which its model is scored, where that is not below the scoring
/// base. A tag, because the SDK's users can change tags.
pub(crate) const SCORING_URI_TAG: &str = "scoregate.scoringUri";

/// Whether a text can be a scoring URI: http or https, and nothing beyond a path.
pub(crate) fn is_scoring_uri(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| {
        let is_bare = url.username().is_empty() && url.password().is_none();
        let ends_with_path = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare && ends_with_path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://models.example/one/score", true)]
    #[case("http://127.0.0.1:8080/score", true)]
    #[case("ftp://models.example/score", false)]
    #[case("https://user:secret@models.example/score", false)]
    #[case("https://models.example/score?code=secret", false)]
    #[case("https://models.example/score#x", false)]
    #[case("models.example/score", false)]
    #[case("/score", false)]
    fn is_scoring_uri_wants_a_plain_one(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_scoring_uri(text), expected);
    }
}
