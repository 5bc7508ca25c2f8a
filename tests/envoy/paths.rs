//! Paths that Envoy, gate and model server might read differently.

use crate::support::{Answer, Connection, Envoy, Request, Seen, System, Way};

struct Services {
    mine: String,
    key: String,
    other: String,
}

fn services() -> Services {
    let system = System::get();
    let (mine, other) = (system.new_service(), system.new_service());
    let key = system.workspace.create_with_keys(&mine).primary;
    system.workspace.create_with_keys(&other);
    Services { mine, key, other }
}

impl Services {
    fn send(&self, way: Way, rest: &str) -> Answer {
        way.send(&Request::get(&format!("/api/v1/service/{}{rest}", self.mine)).bearer(&self.key))
    }
}

#[test]
fn t030_paths_are_read_in_one_way_or_refused() {
    let services = services();
    for (rest, expected) in [
        ("/score", Some("/score")),
        ("/a/../score", Some("/score")),
        ("/a/%2e%2e/score", Some("/score")),
        ("/score/.", Some("/score/")),
        ("//score", Some("/score")),
        // Envoy reads a dot segment with parameters as Tomcat does, so nobody after it has to.
        ("/a/..;x=1/score", Some("/score")),
        ("/%2E%2E%2f", None),
        ("/score%2F..", None),
        ("/score%5c..", None),
        ("/score;x=1", None),
    ] {
        for way in System::ways() {
            let answer = services.send(way, rest);
            match expected {
                Some(path) => assert_eq!(Seen::of(&answer).path, path, "{rest}, {}", way.name),
                None => assert_eq!(answer.status, 400, "{rest}, {}", way.name),
            }
        }
    }
}

#[test]
fn t030_a_path_that_leads_to_another_service_is_decided_for_that_one() {
    let services = services();
    let other = &services.other;
    for rest in [
        format!("/../{other}/score"),
        format!("/a/../../{other}/score"),
        format!("/%2e%2e/{other}/score"),
        format!("/..%2f{other}/score"),
        format!("/..%5c{other}/score"),
        format!("/..;/{other}/score"),
        format!("/.%2e/{other}/score"),
        "/../../../..".to_owned(),
    ] {
        for way in System::ways() {
            let answer = services.send(way, &rest);
            assert!(matches!(answer.status, 400 | 401), "{rest}, {}: {}", way.name, answer.status);
        }
    }
    let mut connection = Connection::open(System::way().envoy.address).unwrap();
    let backslash =
        Request::get(&format!(r"/api/v1/service/{}\..\{other}/score", services.mine)).bearer(&services.key);
    let answer = connection.send(&backslash).unwrap();
    assert!(matches!(answer.status, 400 | 401), "{}", answer.status);
}

#[test]
fn t031_fragments_are_refused() {
    let services = services();
    let request =
        Request::get(&format!("/api/v1/service/{}/score#frag", services.mine)).bearer(&services.key);
    assert_eq!(request.send(System::way().envoy.address).status, 400);
    for way in System::ways() {
        assert_eq!(services.send(way, "/score%23").status, 400, "{}", way.name);
    }
}

#[test]
fn t032_the_query_takes_no_part() {
    let services = services();
    for way in System::ways() {
        for query in ["?", "?x=/admin", "?x=/../../other", "?x=%2f%2e%2e", "?a=b&service=other"] {
            let seen = Seen::of(&services.send(way, &format!("/score{query}")));
            assert!(seen.path.starts_with("/score"), "{query}: {}", seen.path);
        }
    }
}

#[test]
fn t032_odd_request_targets_do_no_harm() {
    let services = services();
    let address = System::way().envoy.address;
    let absolute = format!("http://elsewhere.test/api/v1/service/{}/score", services.mine);
    assert_eq!(Request::get(&absolute).bearer(&services.key).send(address).status, 200);
    assert_eq!(Request::get(&absolute).send(address).status, 401);
    for (method, target) in
        [("OPTIONS", "*"), ("CONNECT", "models.test:443"), ("GET", "no-slash"), ("GET", "?")]
    {
        let status = Request::new(method, target).bearer(&services.key).send(address).status;
        assert!((400..500).contains(&status), "{method} {target}: {status}");
    }
}

#[test]
fn t033_undecodable_and_endless_paths_are_refused() {
    let services = services();
    for way in System::ways() {
        for rest in ["/score%00", "/score%zz", "/score%", "/score%c0%af", "/score%c1%9c"] {
            assert_eq!(services.send(way, rest).status, 400, "{rest}, {}", way.name);
        }
        let long = services.send(way, &format!("/{}", "a".repeat(16 * 1024)));
        assert_eq!(long.status, 400, "{}", way.name);
    }
    let endless = Request::get(&format!("/api/v1/service/{}/{}", services.mine, "a".repeat(64 * 1024)));
    let answer = endless.bearer(&services.key).send(System::way().envoy.address);
    assert!(matches!(answer.status, 400 | 414 | 431), "{}", answer.status);
}

#[test]
fn t036_preflights_need_a_credential_like_any_request() {
    let system = System::get();
    let (keyed, open) = (system.new_service(), system.new_service());
    system.workspace.create_with_keys(&keyed);
    system.workspace.create_open(&open);
    let preflight = |service: &str| {
        let request = Request::score(service).method("OPTIONS").header("origin", "https://app.test");
        request.header("access-control-request-method", "POST")
    };
    for way in System::ways() {
        assert_eq!(way.send(&preflight(&keyed)).status, 401, "{}", way.name);
        assert_eq!(way.send(&preflight(&open)).status, 200, "{}", way.name);
    }
}

#[test]
fn t037_an_exempt_path_exempts_nothing_else() {
    const HEALTH: &str = r#"- match: { path: /healthz }
                route: { cluster: model }
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    disabled: true
              - match: { prefix: / }"#;
    let services = services();
    let envoy = Envoy::start(&System::get().envoy_options(0).edit("- match: { prefix: / }", HEALTH));
    assert_eq!(Request::get("/healthz").send(envoy.address).status, 200);
    let score = format!("api/v1/service/{}/score", services.mine);
    for target in [
        format!("/healthz/../{score}"),
        format!("/healthz%2f..%2f{score}"),
        format!("/healthz/%2e%2e/{score}"),
        format!("/healthz;/../{score}"),
        format!("/healthz?/../{score}"),
        format!("//healthz/../{score}"),
        "/healthz/".to_owned(),
        "/healthz/x".to_owned(),
    ] {
        let answer = Request::get(&target).send(envoy.address);
        let is_health = answer.status == 200 && Seen::of(&answer).path.starts_with("/healthz?");
        assert!(is_health || matches!(answer.status, 400 | 401), "{target}: {}", answer.status);
    }
}
