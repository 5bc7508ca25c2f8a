//! Texts with gaps, and what is written into them.

use std::net::Ipv4Addr;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

/// The files beside this one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Template {
    Envoy,
    Istio,
    EnvoyGateway,
}

impl Template {
    fn source(self) -> &'static str {
        match self {
            Self::Envoy => include_str!("templates/envoy.yaml"),
            Self::Istio => include_str!("templates/istio.yaml"),
            Self::EnvoyGateway => include_str!("templates/envoy-gateway.yaml"),
        }
    }

    /// Fills it in.
    #[expect(clippy::expect_used, reason = "templates are part of the program, and each is tried by a test")]
    pub(super) fn render(self, context: &serde_json::Value) -> String {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_formatter(write_scalar);
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
        environment.set_syntax(syntax.build().expect("Jinja's own delimiters"));
        environment.render_str(self.source(), Serde(context)).expect("a template that fits its context")
    }
}

/// As a YAML scalar that is what it was: in quotes where it could be taken for something else.
fn write_scalar(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match (value.kind(), value.as_str()) {
        (ValueKind::Number, _) => Ok(out.write_str(&value.to_string())?),
        (_, Some(text)) if is_plain(text) => Ok(out.write_str(text)?),
        (_, Some(text)) => Ok(out.write_str(&serde_json::Value::from(text).to_string())?),
        (kind, None) => {
            Err(Error::new(ErrorKind::InvalidOperation, format!("a value of kind {kind} in a template")))
        }
    }
}

/// Whether YAML, 1.1 or 1.2, takes it for a string without quotes.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let is_text = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(allowed)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    is_text || text.parse::<Ipv4Addr>().is_ok()
}
