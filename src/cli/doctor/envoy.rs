//! What Envoy's configuration says, in `/config_dump`.

use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::Site;
use super::finding::{Code, Report};

/// A check takes well under a millisecond. What waits for longer holds the caller.
const MAX_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads Envoy's configuration.
pub(super) async fn look(site: &Site, credential_headers: &[String], report: &mut Report) {
    let dump = async {
        let answer = site.get("/config_dump").await?;
        let status = answer.status();
        let dump = answer.json().await.map_err(|error| error.without_url().to_string());
        if status.is_success() { dump } else { Err(format!("/config_dump answers {status}")) }
    };
    match dump.await {
        Ok(dump) => Dump { document: &dump, credential_headers }.look(&site.base, report),
        Err(problem) => report.found(Code::EnvoyUnreachable, &site.base, problem),
    }
}

struct Dump<'a> {
    document: &'a Value,
    credential_headers: &'a [String],
}

impl Dump<'_> {
    fn look(&self, place: &str, report: &mut Report) {
        let mut managers = Vec::new();
        collect(self.document, &|value| has_type(value, ".HttpConnectionManager"), &mut managers);
        let mut has_filter = false;
        for manager in managers {
            let filters = manager["http_filters"].as_array().into_iter().flatten();
            for filter in filters.filter(|filter| is_ext_authz(&filter["typed_config"])) {
                has_filter = true;
                let place = format!("{place}, listener `{}`", text(&manager["stat_prefix"]));
                self.look_at_filter(&place, filter, report);
            }
        }
        if !has_filter {
            report.found(Code::FilterMissing, place, "no listener has an ext_authz filter that asks by gRPC");
            return;
        }
        look_at_routes(place, self.document, report);
    }

    fn look_at_filter(&self, place: &str, filter: &Value, report: &mut Report) {
        let config = &filter["typed_config"];
        if filter["disabled"] == true {
            report.found(Code::FilterPartial, place, "the filter is disabled where no route enables it");
        }
        if let Some(share) =
            enabled_share(config).filter(|share| *share < 1.0 && config["deny_at_disable"].is_null())
        {
            let problem = format!(
                "the filter asks for {:.0} % of the requests, and lets the rest through",
                share * 100.0
            );
            report.found(Code::FilterPartial, place, problem);
        }
        if config["failure_mode_allow"] == true {
            report.found(Code::FailureModeAllow, place, "failure_mode_allow is true: no answer is an allow");
        }
        if config["encode_raw_headers"] != true {
            report.found(Code::RawHeadersOff, place, "encode_raw_headers is false");
        }
        if let Some(problem) = timeout_problem(&config["grpc_service"]["timeout"]) {
            report.found(Code::CheckTimeout, place, problem);
        }
        for header in self.credential_headers {
            if !is_sent(config, header) {
                let problem = format!("allowed_headers leave out `{header}`");
                report.found(Code::HeaderNotSent, place, problem);
            }
            if !may_remove(&config["decoder_header_mutation_rules"], &header.to_ascii_lowercase()) {
                let problem = format!("decoder_header_mutation_rules do not let the gate remove `{header}`");
                report.found(Code::HeaderRules, place, problem);
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn has_type(value: &Value, suffix: &str) -> bool {
    text(&value["@type"]).ends_with(suffix)
}

fn is_ext_authz(config: &Value) -> bool {
    has_type(config, ".ext_authz.v3.ExtAuthz") && config["grpc_service"].is_object()
}

/// All objects of a kind, wherever they are.
fn collect<'a>(value: &'a Value, is_wanted: &dyn Fn(&Value) -> bool, found: &mut Vec<&'a Value>) {
    if value.is_object() && is_wanted(value) {
        found.push(value);
    }
    match value {
        Value::Object(members) => members.values().for_each(|value| collect(value, is_wanted, found)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, is_wanted, found)),
        _ => {}
    }
}

/// Of 1; `None` where it is not set, which is all.
fn enabled_share(config: &Value) -> Option<f64> {
    let share = &config["filter_enabled"]["default_value"];
    let denominator = match text(&share["denominator"]) {
        "TEN_THOUSAND" => 10_000.0,
        "MILLION" => 1_000_000.0,
        _ => 100.0,
    };
    share.is_object().then(|| share["numerator"].as_f64().unwrap_or_default() / denominator)
}

/// A duration in protobuf's JSON.
fn timeout_problem(timeout: &Value) -> Option<String> {
    let Some(written) = timeout.as_str() else {
        return Some("grpc_service.timeout is not set".to_owned());
    };
    let seconds: f64 = written.strip_suffix('s')?.parse().ok()?;
    let is_good = seconds > 0.0 && seconds <= MAX_TIMEOUT.as_secs_f64();
    (!is_good).then(|| format!("grpc_service.timeout is {written}: callers wait for a gate that is gone"))
}

/// Whether a header may be removed, by Envoy's order: what is disallowed, what is allowed, all, and the rest.
fn may_remove(rules: &Value, header: &str) -> bool {
    let matches = |expression: &Value| {
        let regex = expression["regex"].as_str().and_then(whole);
        regex.is_some_and(|regex| regex.is_match(header))
    };
    !matches(&rules["disallow_expression"])
        && (matches(&rules["allow_expression"]) || rules["disallow_all"] != true)
}

/// Whether the gate gets a header: by default all of them.
fn is_sent(config: &Value, header: &str) -> bool {
    let lists = |member: &str| config[member]["patterns"].as_array().map(Vec::as_slice);
    let lists_header = |patterns: &[Value]| patterns.iter().any(|pattern| matches_text(pattern, header));
    lists("allowed_headers").is_none_or(lists_header)
        && !lists("disallowed_headers").is_some_and(lists_header)
}

/// Envoy's `StringMatcher`, for names of headers, which have no letter case.
fn matches_text(matcher: &Value, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let text = |member: &str| matcher[member].as_str().map(str::to_ascii_lowercase);
    let regex = matcher["safe_regex"]["regex"].as_str();
    text("exact").is_some_and(|exact| name == exact)
        || text("prefix").is_some_and(|prefix| name.starts_with(&prefix))
        || text("suffix").is_some_and(|suffix| name.ends_with(&suffix))
        || text("contains").is_some_and(|part| name.contains(&part))
        || regex.and_then(whole).is_some_and(|regex| regex.is_match(&name))
}

/// Envoy's expressions match all of a text, or nothing.
fn whole(regex: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{regex})$")).ok()
}

fn look_at_routes(place: &str, document: &Value, report: &mut Report) {
    let mut configs = Vec::new();
    collect(document, &|value| value["virtual_hosts"].is_array(), &mut configs);
    for config in configs {
        for host in config["virtual_hosts"].as_array().into_iter().flatten() {
            for route in
                host["routes"].as_array().into_iter().flatten().filter(|route| route["route"].is_object())
            {
                let place = format!("{place}, route `{}` of `{}`", matched(route), text(&config["name"]));
                look_at_route(&place, &[route, host, config], report);
            }
        }
    }
}

/// What a route matches, in short.
fn matched(route: &Value) -> &str {
    let rule = &route["match"];
    let ways = [&rule["prefix"], &rule["path"], &rule["path_separated_prefix"], &rule["safe_regex"]["regex"]];
    ways.into_iter().find_map(Value::as_str).unwrap_or("?")
}

/// A route, and what it inherits from.
fn look_at_route(place: &str, levels: &[&Value; 3], report: &mut Report) {
    let configs: Vec<_> = levels.iter().filter_map(|level| filter_config(level)).collect();
    if configs.first().is_some_and(|config| config["disabled"] == true) {
        report.found(Code::RouteUnprotected, place, "the filter is disabled for it");
    } else if !configs.iter().any(|config| names_service(config)) {
        report.found(Code::RouteWithoutService, place, "its context_extensions name no service");
    }
}

fn filter_config(level: &Value) -> Option<&Value> {
    let configs = level["typed_per_filter_config"].as_object()?;
    let is_ours = |name: &str, config: &Value| {
        has_type(config, ".ExtAuthzPerRoute")
            || (name.contains("ext_authz") && has_type(config, ".FilterConfig"))
    };
    configs.iter().find(|(name, config)| is_ours(name, config)).map(|(_, config)| config)
}

fn names_service(config: &Value) -> bool {
    // A `FilterConfig` has it one level below.
    [config, &config["config"]]
        .into_iter()
        .any(|config| !text(&config["check_settings"]["context_extensions"]["service"]).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!(null), true)]
    #[case(json!({ "disallow_all": true }), false)]
    #[case(json!({ "disallow_all": true, "allow_expression": { "regex": "authorization|x-scoregate-.*" } }), true)]
    #[case(json!({ "disallow_all": true, "allow_expression": { "regex": "x-scoregate-.*|authorization-.*" } }), false)]
    #[case(json!({ "disallow_expression": { "regex": "auth.*" }, "allow_expression": { "regex": "authorization" } }), false)]
    #[case(json!({ "disallow_expression": { "regex": "auth" } }), true)]
    fn may_remove_follows_envoys_order(#[case] rules: Value, #[case] expected: bool) {
        assert_eq!(may_remove(&rules, "authorization"), expected);
    }

    #[rstest]
    #[case(json!({}), true)]
    #[case(json!({ "allowed_headers": { "patterns": [{ "exact": "Authorization", "ignore_case": true }] } }), true)]
    #[case(json!({ "allowed_headers": { "patterns": [{ "exact": "content-type" }] } }), false)]
    #[case(json!({ "allowed_headers": { "patterns": [{ "prefix": "auth" }] } }), true)]
    #[case(json!({ "allowed_headers": { "patterns": [{ "safe_regex": { "regex": "auth" } }] } }), false)]
    #[case(json!({ "disallowed_headers": { "patterns": [{ "contains": "oriz" }] } }), false)]
    fn is_sent_follows_envoys_lists(#[case] config: Value, #[case] expected: bool) {
        assert_eq!(is_sent(&config, "authorization"), expected);
    }

    #[rstest]
    #[case(json!("0.500s"), false)]
    #[case(json!("2s"), false)]
    #[case(json!("0s"), true)]
    #[case(json!("30s"), true)]
    #[case(json!(null), true)]
    fn timeouts_are_short_and_there(#[case] timeout: Value, #[case] expected: bool) {
        assert_eq!(timeout_problem(&timeout).is_some(), expected);
    }

    fn route_codes(levels: &[Value; 3]) -> Vec<Code> {
        let mut report = Report::default();
        look_at_route("here", &levels.each_ref(), &mut report);
        report.codes()
    }

    fn per_route(config: Value) -> Value {
        let mut config = config;
        config["@type"] =
            "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute".into();
        json!({ "typed_per_filter_config": { "envoy.filters.http.ext_authz": config } })
    }

    #[test]
    fn a_route_inherits_its_service_and_says_itself_whether_it_is_asked_for() {
        let service = per_route(json!({ "check_settings": { "context_extensions": { "service": "svc" } } }));
        let nothing = || json!({});
        assert_eq!(route_codes(&[service.clone(), nothing(), nothing()]), []);
        assert_eq!(route_codes(&[nothing(), service.clone(), nothing()]), []);
        assert_eq!(route_codes(&[nothing(), nothing(), nothing()]), [Code::RouteWithoutService]);
        let disabled = per_route(json!({ "disabled": true }));
        assert_eq!(route_codes(&[disabled.clone(), service.clone(), nothing()]), [Code::RouteUnprotected]);
        assert_eq!(route_codes(&[service, disabled, nothing()]), []);
    }

    #[test]
    fn a_share_is_of_its_denominator() {
        let config = |share: Value| json!({ "filter_enabled": { "default_value": share } });
        assert_eq!(enabled_share(&json!({})), None);
        assert_eq!(enabled_share(&config(json!({ "numerator": 50 }))), Some(0.5));
        assert_eq!(
            enabled_share(&config(json!({ "numerator": 50, "denominator": "TEN_THOUSAND" }))),
            Some(0.005)
        );
        assert_eq!(enabled_share(&config(json!({ "denominator": "MILLION" }))), Some(0.0));
    }
}
