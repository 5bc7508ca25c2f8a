//! b. Which service?

use std::time::Duration;

use rstest::rstest;
use scoregate_authz::{
    AuthMode, ComputeType, DenyReason, DigestDocument, EntryChange, InvalidPolicy, Policy, PolicyDocument,
    PortRule, Rules, Slot, TargetSource, UndecidedReason, check,
};

use crate::support::*;

use DenyReason::{UnknownKey, UnknownService};
use Outcome::{Key, Open, Refused, RefusedBare, Undecided};

const HOST: &str = "s.example.com";

/// [`SCORER`] at the root of [`HOST`].
fn scorer_at_host() -> World {
    World::of(vec![service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/")))])
}

fn at_host(host: &str) -> Request {
    Request::at(host, "/score").bearer(K1)
}

#[rstest]
#[case("x-service")]
#[case("service")]
#[case("x-scoregate-service")]
#[case("host")]
#[case(":authority")]
fn t017_the_route_names_the_service_and_no_header_does(#[case] header: &str) {
    let open = service(OTHER, Some(at_place(open_policy(), OTHER.0, "/")));
    let world = World::of(vec![key_service(SCORER, K1, K2), open]);
    let request = Request::to(SCORER.0).host(OTHER.0).header(header, OTHER.0);
    assert_eq!(world.decide(&request), RefusedBare(DenyReason::MissingCredential));
    assert_eq!(world.decide(&request.bearer(K1)), Key(Slot::Primary));
}

#[test]
fn t017_a_listener_by_host_ignores_the_name_in_the_route() {
    let open = service(OTHER, Some(at_place(open_policy(), "other.example.com", "/")));
    let scorer = service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/")));
    let world = World::of(vec![open, scorer]).by_host(PortRule::Any);
    assert_eq!(world.decide(&Request::to(OTHER.0).host(HOST).bearer(K1)), Key(Slot::Primary));
}

#[test]
fn t018_a_listener_by_route_never_guesses_from_the_host() {
    assert_eq!(scorer_at_host().decide(&at_host(HOST)), Refused(UnknownService));
    assert_eq!(scorer_at_host().decide(&at_host(SCORER.0)), Refused(UnknownService), "a name is no host");
}

#[rstest]
#[case("S.EXAMPLE.com", true, true)]
#[case("s.example.com.", true, true)]
#[case("s.example.com:443", true, true)]
#[case("s.example.com:80", true, true)]
#[case("S.Example.Com.:443", true, true)]
#[case("s.example.com:8443", true, false)]
#[case("s.example.com..", false, false)]
#[case("s.example.com:", false, false)]
#[case("s.example.com:https", false, false)]
#[case("s.example.com:65536", false, false)]
#[case("s.example.com:+443", false, false)]
#[case("s.example.com:-1", false, false)]
#[case("s.example.com:443:443", false, false)]
fn t018_spellings_of_one_host(#[case] host: &str, #[case] any_port: bool, #[case] standard_ports: bool) {
    for (ports, is_known) in [(PortRule::Any, any_port), (PortRule::Standard, standard_ports)] {
        let expected = if is_known { Key(Slot::Primary) } else { Refused(UnknownService) };
        assert_eq!(scorer_at_host().by_host(ports).decide(&at_host(host)), expected, "{ports:?}");
    }
}

#[rstest]
#[case("[::1]:80", true)]
#[case("[::1]", true)]
#[case("[0:0:0:0:0:0:0:1]:80", true)]
#[case("[fe80::1%25eth0]", false)]
#[case("[::1%lo]", false)]
#[case("::1", false)]
#[case("[::1", false)]
#[case("[::1]80", false)]
#[case("[::1].", false)]
#[case("[]", false)]
#[case("[[::1]]", false)]
fn t019_addresses_as_hosts(#[case] host: &str, #[case] is_known: bool) {
    let scorer = service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), "[::1]", "/")));
    let world = World::of(vec![scorer]).by_host(PortRule::Any);
    let expected = if is_known { Key(Slot::Primary) } else { Refused(UnknownService) };
    assert_eq!(world.decide(&at_host(host)), expected);
}

#[rstest]
#[case("s.example.com,evil")]
#[case("s.example.com, s.example.com")]
#[case("s.example.com@evil")]
#[case("evil@s.example.com")]
#[case("s.example.com/")]
#[case("http://s.example.com")]
#[case(" s.example.com")]
#[case("s.example.com ")]
#[case("s.example.com\0")]
#[case("s.exa\0mple.com")]
#[case("s.example.com\t")]
#[case("s.example.com\r\nx: y")]
#[case("s%2eexample.com")]
#[case("s.example.com%00")]
#[case("s\u{ff0e}example.com")]
#[case("s.example.c\u{f6}m")]
#[case("\u{17f}.example.com")]
#[case("s.example.com#")]
#[case("s.example.com?")]
#[case("s.example.com\\")]
#[case("s..example.com")]
#[case("-s.example.com")]
fn t020_hosts_that_are_none(#[case] host: &str) {
    assert_eq!(scorer_at_host().by_host(PortRule::Any).decide(&at_host(host)), Refused(UnknownService));
}

#[rstest]
#[case("")]
#[case(".")]
#[case(":443")]
fn t021_no_host(#[case] host: &str) {
    let world = scorer_at_host().by_host(PortRule::Any);
    assert_eq!(world.decide(&at_host(host)), Refused(UnknownService));
    assert_eq!(world.decide(&Request::at(host, "/score")), RefusedBare(UnknownService));
}

#[rstest]
#[case::no_service(None)]
#[case::empty(Some(""))]
#[case::unknown(Some("nobody"))]
#[case::other_case(Some("Scorer"))]
#[case::with_space(Some("scorer "))]
#[case::uid_instead(Some("uid-1"))]
#[case::label_injection(Some("x\"} 1\nscoregate_"))]
fn t022_an_unknown_service_looks_like_a_wrong_key(#[case] name: Option<&str>) {
    let world = World::with_keys();
    let request = name.map_or_else(|| Request::at(HOST, "/score"), Request::to);
    let cache = Cache::default();
    let verdict = world.verdict(&request.clone().bearer(WRONG_KEY), &cache);
    let unknown = Outcome::from(&verdict.decision);
    let wrong_key = world.decide(&Request::to(SCORER.0).bearer(WRONG_KEY));
    assert_eq!((&unknown, &wrong_key), (&Refused(UnknownService), &Refused(UnknownKey)));
    assert_eq!(unknown.answer(), wrong_key.answer());
    assert!(verdict.service.is_none(), "nothing of what was sent may become a label");
    assert_eq!(cache.lookups(), 0);
    let nothing = world.decide(&Request::to(SCORER.0));
    assert_eq!(world.decide(&request).answer(), nothing.answer());
}

#[rstest]
#[case::the_older_first(false)]
#[case::the_newer_first(true)]
fn t023_of_two_services_at_one_place_the_older_keeps_it(#[case] newer_first: bool) {
    let older = || service(SCORER, Some(at_place(key_policy(SCORER.1, K1, K2), HOST, "/")));
    let newer = || service(OTHER, Some(at_place(open_policy(), HOST, "/")));
    let mut world = World::of(vec![if newer_first { newer() } else { older() }]).by_host(PortRule::Any);
    world.change(vec![EntryChange::Put(if newer_first { older() } else { newer() })]);
    let contested: Vec<_> = world.snapshot.contested_places().collect();
    assert_eq!(contested, [(HOST, "/", &OTHER.1.parse().unwrap())]);
    assert_eq!(world.decide(&at_host(HOST)), Key(Slot::Primary));
    world.change(vec![EntryChange::Put(older())]);
    assert_eq!(world.decide(&at_host(HOST)), Key(Slot::Primary), "a change of the older does not lose it");
    world.change(vec![EntryChange::Delete(service_id(SCORER.1))]);
    assert_eq!(world.decide(&at_host(HOST)), Open);
    assert_eq!(world.snapshot.contested_places().count(), 0);
}

#[test]
fn t023_contested_places_are_found_among_others_of_the_same_length() {
    let at = |names: (&'static str, &'static str), prefix| {
        service(names, Some(at_place(open_policy(), HOST, prefix)))
    };
    let entries =
        vec![at(("one", "uid-1"), "/aa"), at(("two", "uid-2"), "/bb"), at(("three", "uid-3"), "/aa")];
    let snapshot = snapshot_of(entries).unwrap();
    let contested: Vec<_> = snapshot.contested_places().collect();
    assert_eq!(contested, [(HOST, "/aa", &"uid-3".parse().unwrap())]);
}

#[test]
fn places_declared_twice_by_one_service_are_not_contested() {
    let policy = PolicyDocument {
        hosts: vec![HOST.to_owned(), HOST.to_owned()],
        path_prefixes: vec!["/a".to_owned(), "/a".to_owned()],
        ..open_policy()
    };
    let mut world = World::of(vec![service(SCORER, Some(policy))]).by_host(PortRule::Any);
    assert_eq!(world.snapshot.contested_places().count(), 0);
    assert_eq!(world.decide(&Request::at(HOST, "/a")), Open);
    world.change(vec![EntryChange::Delete(service_id(SCORER.1))]);
    assert_eq!(world.decide(&Request::at(HOST, "/a")), RefusedBare(UnknownService));
}

#[test]
fn each_prefix_at_each_host_is_a_place() {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let hosts = ["a.example.com", "b.example.com"];
    let policy = |prefixes: &[&str]| PolicyDocument {
        hosts: texts(&hosts),
        path_prefixes: texts(prefixes),
        ..open_policy()
    };
    let mut world =
        World::of(vec![service(SCORER, Some(policy(&["/x", "/y", "/z"])))]).by_host(PortRule::Any);
    for (host, path) in hosts.iter().flat_map(|host| ["/x", "/y/1", "/z"].map(|path| (host, path))) {
        assert_eq!(world.decide(&Request::at(host, path)), Open, "{host}{path}");
    }
    assert_eq!(world.decide(&Request::at(hosts[1], "/w")), RefusedBare(UnknownService));
    world.change(vec![EntryChange::Put(service(SCORER, Some(policy(&["/y"]))))]);
    for (host, path) in hosts.iter().flat_map(|host| ["/x", "/z"].map(|path| (host, path))) {
        assert_eq!(world.decide(&Request::at(host, path)), RefusedBare(UnknownService), "{host}{path}");
    }
    assert_eq!(world.decide(&Request::at(hosts[1], "/y")), Open);
    world.change(vec![EntryChange::Put(service(SCORER, Some(policy(&[]))))]);
    assert_eq!(
        world.decide(&Request::at(hosts[0], "/")),
        RefusedBare(UnknownService),
        "no prefix is no place"
    );
}

fn undecodable() -> Option<PolicyDocument> {
    None
}

fn without_a_compute_type() -> Option<PolicyDocument> {
    Some(PolicyDocument { compute_type: None, ..key_policy(SCORER.1, K1, K2) })
}

fn with_tokens_on_aci() -> Option<PolicyDocument> {
    Some(PolicyDocument { compute_type: Some(ComputeType::Aci), ..token_policy() })
}

fn without_a_secondary_key() -> Option<PolicyDocument> {
    Some(PolicyDocument { secondary: None, ..key_policy(SCORER.1, K1, K2) })
}

fn under_a_pepper(pepper_id: &str) -> Option<PolicyDocument> {
    let mut policy = key_policy(SCORER.1, K1, K2);
    let digest = policy.primary.take().unwrap().digest;
    policy.primary = Some(DigestDocument { digest, pepper_id: pepper_id.to_owned() });
    Some(policy)
}

fn unknown_pepper(pepper_id: &str) -> InvalidPolicy {
    InvalidPolicy::UnknownPepper { slot: Slot::Primary, pepper_id: pepper_id.to_owned() }
}

#[rstest]
#[case(undecodable(), InvalidPolicy::Undecodable)]
#[case(
    Some(PolicyDocument { has_unknown_fields: true, ..open_policy() }),
    InvalidPolicy::UnknownField
)]
#[case(without_a_compute_type(), InvalidPolicy::ComputeType)]
#[case(with_tokens_on_aci(), InvalidPolicy::TokenOnAci)]
#[case(without_a_secondary_key(), InvalidPolicy::Digest(Slot::Secondary))]
#[case(under_a_pepper("0123456789abcdef"), unknown_pepper("0123456789abcdef"))]
#[case(under_a_pepper(""), unknown_pepper(""))]
#[case(
    Some(at_place(open_policy(), "S.example.com", "/")),
    InvalidPolicy::Host("S.example.com".to_owned())
)]
#[case(Some(at_place(open_policy(), HOST, "/a/../b")), InvalidPolicy::PathPrefix("/a/../b".to_owned()))]
fn t024_a_malformed_policy_concerns_its_service_only(
    #[case] policy: Option<PolicyDocument>,
    #[case] problem: InvalidPolicy,
) {
    let world = World::of(vec![service(SCORER, policy), key_service(OTHER, K1, K2)]);
    let of_scorer = world.snapshot.services().find(|service| service.name().as_str() == SCORER.0).unwrap();
    assert_eq!(of_scorer.problem(), Some(&problem));
    for request in [Request::to(SCORER.0), Request::to(SCORER.0).bearer(K1)] {
        assert_eq!(world.decide(&request), Undecided(UndecidedReason::InvalidPolicy));
    }
    assert_eq!(world.decide(&Request::to(OTHER.0).bearer(K1)), Key(Slot::Primary));
}

#[test]
fn t025_a_deleted_service_is_denied_from_the_next_revision_on() {
    let mut world = World::of(vec![key_service(SCORER, K1, K2), token_service(OTHER), ES256.entry()]);
    let with_key = Request::to(SCORER.0).bearer(K1);
    let with_token = Request::to(OTHER.0).bearer(&ES256.token(&claims(OTHER.1)));
    let cache = Cache::default();
    assert_eq!(world.decide_with(&with_key, &cache), Key(Slot::Primary));
    assert_eq!(world.decide_with(&with_token, &cache), Outcome::Subject("someone".to_owned()));
    world.change(vec![EntryChange::Delete(service_id(SCORER.1)), EntryChange::Delete(service_id(OTHER.1))]);
    assert_eq!(cache.len(), 1, "the proof of the token is still there, and of no use");
    assert_eq!(world.decide_with(&with_key, &cache), Refused(UnknownService));
    assert_eq!(world.decide_with(&with_token, &cache), Refused(UnknownService));
}

#[test]
fn t025_a_service_known_by_its_place_is_gone_as_well() {
    let mut world = scorer_at_host().by_host(PortRule::Any);
    world.change(vec![EntryChange::Delete(service_id(SCORER.1))]);
    assert_eq!(world.decide(&at_host(HOST)), Refused(UnknownService));
}

#[rstest]
#[case::without_credential(Request::to(SCORER.0))]
#[case::with_the_key(Request::to(SCORER.0).bearer(K1))]
fn t026_no_auth_mode_is_not_anonymous(#[case] request: Request) {
    // A mode that this version does not know arrives as none at all.
    let policy = PolicyDocument { auth_mode: None, ..key_policy(SCORER.1, K1, K2) };
    let world = World::of(vec![service(SCORER, Some(policy))]);
    assert_eq!(world.decide(&request), Undecided(UndecidedReason::InvalidPolicy));
    let world = World::of(vec![service(SCORER, Some(PolicyDocument::default()))]);
    assert_eq!(world.decide(&request), Undecided(UndecidedReason::InvalidPolicy));
}

#[test]
fn t026_anonymous_is_explicit() {
    let world = World::of(vec![service(SCORER, Some(open_policy()))]);
    assert_eq!(world.decide(&Request::to(SCORER.0)), Open);
    let verdict = world.verdict(&Request::to(SCORER.0).bearer(WRONG_KEY), &());
    assert_eq!(Outcome::from(&verdict.decision), Open);
    assert_eq!(verdict.service.unwrap().auth_mode(), Some(AuthMode::Disabled));
}

#[rstest]
#[case("*.example.com")]
#[case("*")]
#[case(".example.com")]
#[case("s.example.com:443")]
#[case("s.example.com.")]
#[case("")]
fn t028_wildcards_and_the_like_are_refused_in_policy(#[case] host: &str) {
    let world =
        World::of(vec![service(SCORER, Some(at_place(open_policy(), host, "/")))]).by_host(PortRule::Any);
    let problem = world.snapshot.services().next().unwrap().problem().cloned();
    assert_eq!(problem, Some(InvalidPolicy::Host(host.to_owned())));
    assert_eq!(world.decide(&Request::at(HOST, "/score")), RefusedBare(UnknownService));
}

#[rstest]
#[case("evilexample.com")]
#[case(".example.com")]
#[case("a.example.com")]
#[case("example.com.evil")]
#[case("example.comx")]
fn t028_a_host_is_not_matched_in_part(#[case] host: &str) {
    let policy = at_place(key_policy(SCORER.1, K1, K2), "example.com", "/");
    let world = World::of(vec![service(SCORER, Some(policy))]).by_host(PortRule::Any);
    assert_eq!(world.decide(&at_host("example.com")), Key(Slot::Primary));
    assert_eq!(world.decide(&at_host(host)), Refused(UnknownService));
}

#[test]
fn a_service_without_hosts_is_at_no_place() {
    let policy = PolicyDocument { path_prefixes: vec!["/".to_owned()], ..open_policy() };
    let world = World::of(vec![service(SCORER, Some(policy))]).by_host(PortRule::Any);
    assert_eq!(world.decide(&Request::at("", "/")), RefusedBare(UnknownService));
    assert_eq!(world.decide(&Request::at(HOST, "/")), RefusedBare(UnknownService));
}

#[test]
fn services_that_swap_names_in_one_change_swap_callers() {
    let mut world = World::of(vec![key_service(SCORER, K1, K2), service(OTHER, Some(open_policy()))]);
    world.change(vec![
        EntryChange::Put(key_service((OTHER.0, SCORER.1), K1, K2)),
        EntryChange::Put(service((SCORER.0, OTHER.1), Some(open_policy()))),
    ]);
    assert_eq!(world.decide(&Request::to(SCORER.0)), Open);
    assert_eq!(world.decide(&Request::to(OTHER.0).bearer(K2)), Key(Slot::Secondary));
}

#[rstest]
#[case::by_route(TargetSource::ContextExtensions)]
#[case::by_host(TargetSource::HostPath)]
fn without_a_snapshot_or_without_http_nothing_is_allowed(#[case] target: TargetSource) {
    let world = World::of(Vec::new());
    let rules = Rules { target, ..world.rules.clone() };
    let request = Request::to(SCORER.0).host(HOST).bearer(K1);
    let now = Duration::from_secs(NOW);
    let no_policy = check(&rules, Policy::None, Some(&request), now, &(), &mut ());
    assert_eq!(Outcome::from(&no_policy.decision), Undecided(UndecidedReason::NoPolicy));
    let stale = check(&rules, Policy::Stale(&world.snapshot), Some(&request), now, &(), &mut ());
    assert_eq!(Outcome::from(&stale.decision), Undecided(UndecidedReason::StalePolicy));
    let no_http = check(&rules, Policy::Current(&world.snapshot), None::<&Request>, now, &(), &mut ());
    assert_eq!(Outcome::from(&no_http.decision), RefusedBare(DenyReason::NoHttp));
    assert_eq!(world.decide(&request), Refused(UnknownService), "an empty snapshot is a snapshot");
}
