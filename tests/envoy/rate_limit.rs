//! A limit for each service, with the part of Envoy's configuration that is shipped for it.

use crate::support::{Envoy, EnvoyOptions, Gate, Request, System, WorkspaceProcess};

#[test]
fn a_service_that_is_called_too_often_is_limited_and_no_other() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &[]);
    let client = workspace.client();
    let services = ["forecast", "ranking", "other"];
    let keys = services.map(|service| client.create_with_keys(service).primary);
    // So few, and so seldom more, that a test can use them up.
    let part = include_str!("../../envoy/parts/rate-limit.yaml");
    let part = &part[part.find("          - name:").unwrap()..];
    let part = part
        .replace(
            "max_tokens: 200, tokens_per_fill: 100, fill_interval: 1s",
            "max_tokens: 2, tokens_per_fill: 1, fill_interval: 3600s",
        )
        .replace(
            "max_tokens: 2000, tokens_per_fill: 1000, fill_interval: 1s",
            "max_tokens: 3, tokens_per_fill: 1, fill_interval: 3600s",
        );
    let router = "          - name: envoy.filters.http.router\n";
    let mut options = EnvoyOptions::new(&gate.check_address(), System::model());
    options.services = vec!["other".to_owned()];
    let envoy = Envoy::start(&options.edit(router, format!("{part}{router}").leak()));
    let status = |service: usize, key: &str| {
        Request::score(services[service])
            .header("x-service", services[0])
            .bearer(key)
            .send(envoy.address)
            .status
    };
    for _ in 0..5 {
        assert_eq!(status(1, "a-key-of-nobody"), 401, "what is refused does not count");
    }
    for (service, expected) in
        [(1, [200, 200, 429, 429]), (0, [200, 200, 200, 429]), (2, [200, 200, 429, 429])]
    {
        let statuses = expected.map(|_| status(service, &keys[service]));
        assert_eq!(statuses, expected, "{}", services[service]);
    }
}
