//! c. Path. A listener by host and path has a service with keys at `/score` and an open one at `/admin`, on one host, so
//! that a path read in the wrong way would show as an open service.

use rstest::rstest;
use scoregate_authz::{DenyReason, EntryChange, InvalidPolicy, PortRule, Slot};

use crate::support::*;

use DenyReason::{AmbiguousPath, MissingCredential, UnknownService};
use Outcome::{Key, Open, Refused, RefusedBare};

const HOST: &str = "h.example.com";

fn world() -> World {
    let scorer = service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/score")));
    let admin = service(OTHER, Some(at_place(open_policy(), HOST, "/admin")));
    World::of(vec![scorer, admin]).by_host(PortRule::Any)
}

fn at(path: &str) -> Request {
    Request::at(HOST, path)
}

/// A path is refused by listeners of both kinds, whatever the credential.
fn assert_ambiguous(path: &str) {
    let by_host = world();
    let by_route = World::with_keys();
    for request in [at(path), at(path).bearer(K1)] {
        assert_eq!(by_host.decide(&request), RefusedBare(AmbiguousPath));
    }
    assert_eq!(by_route.decide(&Request::to(SCORER.0).path(path).bearer(K1)), RefusedBare(AmbiguousPath));
}

#[rstest]
#[case("//admin/x")]
#[case("///admin")]
#[case("//")]
#[case("//h.example.com/admin")]
#[case("/score//admin")]
fn t029_two_slashes_are_not_an_authority(#[case] path: &str) {
    assert_ambiguous(path);
}

#[rstest]
#[case("/a/../score")]
#[case("/a/%2e%2e/score")]
#[case("/a/%2E%2E/score")]
#[case("/a/.%2e/score")]
#[case("/%2E%2E%2f")]
#[case("/score%2F..")]
#[case("/score%2fadmin")]
#[case("/score/..")]
#[case("/score/../admin")]
#[case(r"/score\..\admin")]
#[case("/score%5c..")]
#[case("/score%5C..%5Cadmin")]
#[case("/score;x=1")]
#[case("/admin/..;/score")]
#[case("/score%3bx=1")]
#[case("/score/.")]
#[case("/./score")]
#[case("/.")]
#[case("/..")]
#[case("/score/%252e%252e/admin")]
fn t030_paths_that_servers_read_in_two_ways(#[case] path: &str) {
    assert_ambiguous(path);
}

#[rstest]
#[case("/%73core")]
#[case("/scor%65/x")]
#[case("/%61dmin/x")]
#[case("/score/%7Euser")]
#[case("/score/a%2Db")]
fn t030_characters_that_need_no_encoding_are_not_encoded(#[case] path: &str) {
    assert_ambiguous(path);
}

#[rstest]
#[case("/score")]
#[case("/score/")]
#[case("/score/models/one")]
#[case("/score/...")]
#[case("/score/a.b")]
#[case("/score/a%20b")]
#[case("/score/a:b@c,d")]
#[case("/score/%C3%A4")]
fn t030_plain_paths_are_read(#[case] path: &str) {
    assert_eq!(world().decide(&at(path).bearer(K1)), Key(Slot::Primary));
}

#[rstest]
#[case("/score#frag")]
#[case("/admin#/score")]
#[case("/score%23")]
#[case("/score#?x=1")]
fn t031_fragments(#[case] path: &str) {
    assert_ambiguous(path);
}

#[rstest]
#[case("/score?x=/admin", Key(Slot::Primary))]
#[case("/score?/admin/../x#y", Key(Slot::Primary))]
#[case("/score?", Key(Slot::Primary))]
#[case("/score??", Key(Slot::Primary))]
#[case("/admin?/score", Open)]
#[case("/other?/admin", Refused(UnknownService))]
#[case("?", Refused(UnknownService))]
#[case("?/admin", Refused(UnknownService))]
#[case("", Refused(UnknownService))]
#[case("*", Refused(UnknownService))]
#[case("*?/admin", Refused(UnknownService))]
#[case("http://h/score", RefusedBare(AmbiguousPath))]
#[case("http://h.example.com/admin", RefusedBare(AmbiguousPath))]
#[case("h.example.com:443", RefusedBare(AmbiguousPath))]
#[case("score", RefusedBare(AmbiguousPath))]
#[case("**", RefusedBare(AmbiguousPath))]
fn t032_the_query_takes_no_part(#[case] path: &str, #[case] expected: Outcome) {
    assert_eq!(world().decide(&at(path).bearer(K1)), expected);
}

#[rstest]
#[case("")]
#[case("*")]
#[case("?")]
fn t032_a_check_without_a_path_goes_by_the_route(#[case] path: &str) {
    let world = World::with_keys();
    assert_eq!(world.decide(&Request::to(SCORER.0).path(path).bearer(K1)), Key(Slot::Primary));
    assert_eq!(world.decide(&Request::to(SCORER.0).path(path)), RefusedBare(MissingCredential));
}

#[rstest]
#[case("/score%00")]
#[case("/score%0d%0ax: y")]
#[case("/score%7f")]
#[case("/score%zz")]
#[case("/score%")]
#[case("/score%2")]
#[case("/score%+2")]
#[case("/score/%c0%af")]
#[case("/score/%c0%ae%c0%ae/admin")]
#[case("/score/%ff")]
#[case("/score/%ed%a0%80")]
#[case("/score\0")]
#[case("/score x")]
#[case("/score\t")]
#[case("/score\u{e4}")]
fn t033_bytes_that_no_path_has(#[case] path: &str) {
    assert_ambiguous(path);
}

#[test]
fn t033_a_path_of_64_kib() {
    assert_ambiguous(&format!("/score/{}", "a".repeat(64 * 1024)));
    assert_ambiguous(&"/a".repeat(32 * 1024));
    assert_eq!(world().decide(&at(&format!("/score{}", "/a".repeat(4000))).bearer(K1)), Key(Slot::Primary));
}

#[test]
fn t032_a_long_query_is_none_of_the_paths_length() {
    let path = format!("/score?x={}", "a".repeat(32 * 1024));
    assert_eq!(world().decide(&at(&path).bearer(K1)), Key(Slot::Primary));
}

#[rstest]
#[case("x-envoy-original-path")]
#[case("x-original-url")]
#[case("x-rewrite-url")]
#[case("x-forwarded-uri")]
#[case("x-forwarded-host")]
#[case("x-forwarded-proto")]
#[case("x-forwarded-prefix")]
#[case("forwarded")]
#[case(":path")]
fn t034_headers_about_other_paths_have_no_influence(#[case] header: &str) {
    for value in ["/admin", HOST, "https", "host=h.example.com"] {
        assert_eq!(world().decide(&at("/score").header(header, value)), RefusedBare(MissingCredential));
        assert_eq!(world().decide(&at("/none").header(header, value)), RefusedBare(UnknownService));
    }
}

#[rstest]
#[case::asterisk("*")]
#[case::path("/score")]
fn t036_a_preflight_without_a_credential_needs_an_open_service(#[case] path: &str) {
    // The core is not told the method: it has no rule by which one could be exempt.
    let preflight = |request: Request| {
        request.path(path).header(":method", "OPTIONS").header("access-control-request-method", "POST")
    };
    let mut world = World::with_keys();
    assert_eq!(world.decide(&preflight(Request::to(SCORER.0))), RefusedBare(MissingCredential));
    world.change(vec![EntryChange::Put(service(SCORER, Some(open_policy())))]);
    assert_eq!(world.decide(&preflight(Request::to(SCORER.0))), Open);
}

#[rstest]
#[case("/healthz", Open)]
#[case("/healthz/../score", RefusedBare(AmbiguousPath))]
#[case("/healthz%2f..%2fscore", RefusedBare(AmbiguousPath))]
#[case("/healthz/..;/score", RefusedBare(AmbiguousPath))]
#[case("/healthz//score", RefusedBare(AmbiguousPath))]
#[case("/healthz\\..\\score", RefusedBare(AmbiguousPath))]
#[case("/healthzz", RefusedBare(UnknownService))]
#[case("/score/healthz", RefusedBare(MissingCredential))]
#[case("/score?/healthz", RefusedBare(MissingCredential))]
fn t037_an_open_health_path_opens_nothing_else(#[case] path: &str, #[case] expected: Outcome) {
    let scorer = service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/score")));
    let health = service(("health", "uid-0"), Some(at_place(open_policy(), HOST, "/healthz")));
    assert_eq!(World::of(vec![scorer, health]).by_host(PortRule::Any).decide(&at(path)), expected);
}

#[rstest]
#[case("/score", Key(Slot::Primary))]
#[case("/score/x", Key(Slot::Primary))]
#[case("/scores", Open)]
#[case("/Score", Open)]
#[case("/", Open)]
#[case("/score/deep/er", Open)]
#[case("/score/deeper", Key(Slot::Primary))]
fn the_longest_prefix_decides(#[case] path: &str, #[case] expected: Outcome) {
    let scorer = service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/score")));
    let root = service(OTHER, Some(at_place(open_policy(), HOST, "/")));
    let deep = service(("deep", "uid-3"), Some(at_place(open_policy(), HOST, "/score/deep")));
    let world = World::of(vec![root, scorer, deep]).by_host(PortRule::Any);
    assert_eq!(world.decide(&at(path).bearer(K1)), expected);
}

#[rstest]
#[case("score")]
#[case("/score/")]
#[case("")]
#[case("//")]
#[case("/a//b")]
#[case("/a/./b")]
#[case("/score?x")]
#[case("/%73core")]
#[case("/a@b")]
#[case("/*")]
fn prefixes_that_could_be_spelled_in_two_ways_are_refused_in_policy(#[case] prefix: &str) {
    let world = World::of(vec![service(SCORER, Some(at_place(open_policy(), HOST, prefix)))]);
    let problem = world.snapshot.services().next().unwrap().problem().cloned();
    assert_eq!(problem, Some(InvalidPolicy::PathPrefix(prefix.to_owned())));
}

#[test]
fn many_services_on_one_host_are_told_apart() {
    let name = |number: usize| format!("svc-{number:05}");
    let one = |number: usize| {
        let (name, uid) = (name(number), format!("uid-{number:05}"));
        let prefix = format!("/api/v1/service/{name}");
        let policy = if number == 777 { key_policy(&uid, K1, K2) } else { open_policy() };
        service((&name, &uid), Some(at_place(policy, HOST, &prefix)))
    };
    // Would take minutes if each service added were to copy those before it.
    let world = World::of((0..20_000).map(one).collect()).by_host(PortRule::Any);
    let score = |number: usize| at(&format!("/api/v1/service/{}/score", name(number)));
    assert_eq!(world.decide(&score(777)), RefusedBare(MissingCredential));
    assert_eq!(world.decide(&score(776)), Open);
    assert_eq!(world.decide(&at("/api/v1/service")), RefusedBare(UnknownService));
}
