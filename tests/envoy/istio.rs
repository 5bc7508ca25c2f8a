//! An `AuthorizationPolicy` with action CUSTOM and `notPaths`, as the filters that Istio makes of it: RBAC finds which
//! requests are meant, `ext_authz` asks about those. No other request may reach the model as something else than what is
//! exempt. What Istio itself emits for the overlays, which exempt nothing, is replayed by `ingress.rs`.

use crate::support::{Envoy, EnvoyOptions, Gate, Request, Seen, System, WorkspaceProcess};

/// Whatever a model server may take for `/score`, or for nothing that is exempt.
pub(crate) const TRICKS: &[&str] = &[
    "/EXEMPT/../score",
    "/EXEMPT/%2e%2e/score",
    "/EXEMPT/%2E%2E%2fscore",
    "/EXEMPT%2f..%2fscore",
    "/EXEMPT%2F..%2Fscore",
    "/EXEMPT/..%2fscore",
    "/EXEMPT%5c..%5cscore",
    "/EXEMPT/..%5cscore",
    r"/EXEMPT\..\score",
    r"/EXEMPT/..\score",
    "/EXEMPT/..;/score",
    "/EXEMPT/..;x=1/score",
    "/EXEMPT;/../score",
    "/EXEMPT/./../score",
    "/EXEMPT//../../score",
    "//EXEMPT/../score",
    "///EXEMPT/../score",
    "/./EXEMPT/../score",
    "/EXEMPT/.%2e/score",
    "/EXEMPT/%2e./score",
    "/score",
    "//score",
    "/score/../score",
    "/score?/EXEMPT",
    "/score#/EXEMPT",
    "/score;/EXEMPT/",
    "/score/..;/EXEMPT/",
    "/%45XEMPT/../score",
    "/EXEMPT%00/../score",
    "/EXEMPT%0a/../score",
    "/EXEMPT%20/../score",
    "/EXEMPT./score",
    "/EXEMPTscore",
    "/exempt/score",
];

/// Which paths a policy leaves out, and how the mesh reads paths.
struct Policy {
    /// As Envoy matches it.
    matcher: &'static str,
    example: &'static str,
    /// `meshConfig.pathNormalization`, as Envoy's settings.
    merge_slashes: &'static str,
    escaped_slashes: &'static str,
    /// Whether a model server that decodes what it gets still sees what is exempt.
    is_exempt: fn(&str) -> bool,
}

/// The mesh's default. It leaves encoded slashes as they are, so that only whole paths can be exempt.
const BASE: Policy = Policy {
    matcher: "exact: /EXEMPT",
    example: "/EXEMPT",
    merge_slashes: "merge_slashes: false",
    escaped_slashes: "path_with_escaped_slashes_action: KEEP_UNCHANGED",
    is_exempt: |path| path == "/EXEMPT",
};

/// `DECODE_AND_MERGE_SLASHES`, without which `notPaths: ["/EXEMPT/*"]` is a hole.
const DECODING: Policy = Policy {
    matcher: "prefix: /EXEMPT/",
    example: "/EXEMPT/x",
    merge_slashes: "merge_slashes: true",
    escaped_slashes: "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD",
    is_exempt: |path| read_by_a_model(path).starts_with("/EXEMPT/"),
};

/// As lenient as servers get: decoded, backslashes as slashes, without parameters, dot segments resolved.
fn read_by_a_model(path: &str) -> String {
    let plain = path.replace('=', "%3D");
    let decoded = form_urlencoded::parse(plain.as_bytes());
    let decoded: String = decoded.map(|(name, _)| name.replace('\\', "/")).collect();
    let mut segments = Vec::new();
    for segment in decoded.split('/').skip(1).map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    format!("/{}/", segments.join("/"))
}

impl Policy {
    fn envoy(&self, gate: &Gate) -> Envoy {
        let rbac = format!(
            r#"          - name: envoy.filters.http.rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              shadow_rules_stat_prefix: istio_ext_authz_
              shadow_rules:
                action: DENY
                policies:
                  istio-ext-authz-ns[models]-policy[scoregate]-rule[0]:
                    permissions:
                    - and_rules:
                        rules:
                        - not_rule: {{ or_rules: {{ rules: [ {{ url_path: {{ path: {{ {} }} }} }} ] }} }}
                    principals: [ {{ and_ids: {{ ids: [ {{ any: true }} ] }} }} ]
          - name: envoy.filters.http.ext_authz
            typed_config:"#,
            self.matcher
        );
        let meant = "stat_prefix: scoregate\n              filter_enabled_metadata:\n                \
             filter: envoy.filters.http.rbac\n                \
             path: [ { key: istio_ext_authz_shadow_effective_policy_id } ]\n                \
             value: { string_match: { prefix: istio-ext-authz } }";
        let options = EnvoyOptions::new(&gate.check_address(), System::model())
            .edit("          - name: envoy.filters.http.ext_authz\n            typed_config:", rbac.leak())
            .edit("stat_prefix: scoregate", meant)
            .edit("merge_slashes: true", self.merge_slashes)
            .edit("path_with_escaped_slashes_action: REJECT_REQUEST", self.escaped_slashes)
            .edit("direct_response: { status: 404 }", "route: { cluster: model }");
        Envoy::start(&options)
    }
}

#[test]
fn t131_each_spelling_of_a_path_that_is_not_exempt_is_asked_of_the_gate_or_refused() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &[("SCOREGATE__GATE__TARGET", "host_path")]);
    for policy in [BASE, DECODING] {
        let envoy = policy.envoy(&gate);
        let (mut gate_refused, mut envoy_refused) = (0, 0);
        for path in TRICKS {
            let before = gate.asked();
            let answer = Request::get(path).host("models.test").send(envoy.address);
            match (gate.asked() - before, answer.status) {
                (1.0, 400 | 401) => gate_refused += 1,
                (0.0, 400) => envoy_refused += 1,
                (0.0, 200) => {
                    let seen = Seen::of(&answer).path;
                    let seen = seen.split('?').next().unwrap();
                    assert!((policy.is_exempt)(seen), "{path} is {seen} at the model, and nobody was asked");
                }
                (asked, status) => panic!("{path}: asked {asked} times, {status}"),
            }
        }
        assert!(gate_refused > TRICKS.len() / 2, "{gate_refused} by the gate, {envoy_refused} by Envoy");
        let before = gate.asked();
        assert_eq!(Request::get(policy.example).host("models.test").send(envoy.address).status, 200);
        assert_eq!(gate.asked(), before, "{} is exempt", policy.example);
    }
}
