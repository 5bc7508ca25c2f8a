//! What holds whatever comes: properties of the core over generated input.

use std::collections::BTreeMap;

use proptest::prelude::*;
use scoregate_authz::{
    AuthMode, Entry, EntryChange, EntryId, InvalidKey, KEY_PREFIX, PlainKey, PolicyDocument, PortRule,
    RefusedState, Snapshot, StateHash, Version, canonical_host,
};

use crate::support::*;

fn header_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("authorization".to_owned()),
        1 => Just("Authorization".to_owned()),
        1 => Just("x-api-key".to_owned()),
        1 => any::<String>(),
    ]
}

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"Bearer ".to_vec()),
        Just(b"bearer".to_vec()),
        Just(b"eyJhbGciOiJFUzI1NiJ9.".to_vec()),
        Just(KEY_PREFIX.as_bytes().to_vec()),
        prop::collection::vec(prop::sample::select(b" \t,.=-_~+/!\0\x7f\x80\xff".as_slice()), 0..4),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

type Headers = Vec<(String, Vec<u8>)>;

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::vec((header_name(), header_value()), 0..4)
}

proptest! {
    #[test]
    fn no_headers_panic_and_none_made_up_are_allowed(in_map in headers(), in_list in headers()) {
        let mut request = Request::to(SCORER.0);
        for (encoding, headers) in [(Encoding::Map, in_map), (Encoding::Raw, in_list)] {
            for (name, value) in headers {
                request = request.header_in(encoding, &name, value);
            }
        }
        for world in [World::with_keys(), World::with_tokens()] {
            let world = world.credential_headers(&["authorization", "x-api-key"]);
            prop_assert!(matches!(world.decide(&request), Outcome::Refused(_) | Outcome::RefusedBare(_)));
        }
    }

    #[test]
    fn no_service_host_or_path_panics(service in any::<String>(), host in any::<String>(), path in any::<String>()) {
        for world in [World::with_keys(), World::with_keys().by_host(PortRule::Any)] {
            let outcome = world.decide(&Request::to(&service).host(&host).path(&path));
            prop_assert!(matches!(outcome, Outcome::RefusedBare(_)));
        }
    }
}

const HOST: &str = "h.example.com";

fn path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2F", "%2f", "%5c", "\\", ";", "%3b", "a", "b", "score",
        "%41", "%61", "%20", "%25", "%252e", "%c3%a4", "%c0%ae", "%00", "?", "#", "*", "%", "\u{e4}", " ",
        "@", ":",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

/// What the most obliging of servers would make of a path: decodes until nothing is left to decode, takes backslashes for
/// slashes, and drops path parameters.
fn read_obligingly(path: &str) -> Vec<String> {
    let mut bytes = path.split('?').next().unwrap_or_default().as_bytes().to_vec();
    for _ in 0..4 {
        bytes = decoded_once(&bytes);
    }
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let segments = text.split('/').map(|segment| segment.split(';').next().unwrap_or_default().to_owned());
    segments.collect()
}

fn decoded_once(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_path_that_is_accepted_is_read_in_one_way(path in path()) {
        let root = service(OTHER, Some(at_place(open_policy(), HOST, "/")));
        let world = World::of(vec![root]).by_host(PortRule::Any);
        if world.decide(&Request::at(HOST, &path)) == Outcome::Open {
            let segments = read_obligingly(&path);
            let inner = segments.get(1..segments.len() - 1).unwrap_or_default();
            prop_assert!(inner.iter().all(|segment| !segment.is_empty()), "{path} is read as {segments:?}");
            let has_dots = segments.iter().any(|segment| segment == "." || segment == "..");
            prop_assert!(!has_dots, "{path} is read as {segments:?}");
            let as_sent = path.split('?').next().unwrap_or_default();
            prop_assert_eq!(segments.len(), as_sent.split('/').count(), "{} is read as {:?}", path, segments);
        }
    }

    #[test]
    fn a_service_that_is_found_is_the_one_that_is_reached(path in path()) {
        let policy = at_place(open_policy(), HOST, "/a");
        let world = World::of(vec![service(OTHER, Some(policy))]).by_host(PortRule::Any);
        let outcome = world.decide(&Request::at(HOST, &path));
        let is_reached = read_obligingly(&path).get(1).is_some_and(|segment| segment == "a");
        match outcome {
            Outcome::Open => prop_assert!(is_reached),
            Outcome::RefusedBare(scoregate_authz::DenyReason::UnknownService) => prop_assert!(!is_reached),
            other => prop_assert_eq!(other, Outcome::RefusedBare(scoregate_authz::DenyReason::AmbiguousPath)),
        }
    }

    #[test]
    fn a_canonical_host_is_its_own_canonical_form(
        host in prop_oneof![
            any::<String>(),
            "[a-zA-Z0-9._:\\[\\]-]{0,20}",
            "[a-zA-Z0-9-]{1,4}(\\.[a-zA-Z0-9_-]{1,4}){0,3}\\.?(:[0-9+]{0,6})?",
            "\\[[0-9a-fA-F:.]{0,20}\\](:[0-9]{0,5})?",
        ],
    ) {
        for ports in [PortRule::Any, PortRule::Standard] {
            if let Some(canonical) = canonical_host(&host, ports) {
                prop_assert_eq!(canonical_host(&canonical, ports), Some(canonical.clone()));
                prop_assert!(canonical.bytes().all(|byte| !byte.is_ascii_uppercase()));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_token_with_one_byte_changed_is_refused(
        with_eddsa in any::<bool>(),
        position in any::<prop::sample::Index>(),
        byte in prop_oneof![
            3 => prop::sample::select(b"ABCyz019-_.".as_slice()),
            1 => any::<u8>(),
        ],
    ) {
        let signer = if with_eddsa { &*EDDSA } else { &*ES256 };
        let world = World::of(vec![token_service(SCORER), signer.entry()]);
        let mut token = signer.good_token().into_bytes();
        let position = position.index(token.len());
        prop_assume!(token[position] != byte);
        token[position] = byte;
        // A space at an end would not belong to the value at all.
        prop_assume!(!(position == token.len() - 1 && matches!(byte, b' ' | b'\t')));
        let request = Request::to(SCORER.0).header("authorization", [b"Bearer ", token.as_slice()].concat());
        prop_assert!(matches!(world.decide(&request), Outcome::Refused(_)));
    }

    #[test]
    fn a_generated_key_is_a_key_and_no_other_with_one_character_changed_is(
        seed in any::<u8>(),
        position in 0..42_usize,
        replacement in any::<char>(),
    ) {
        let key = generated_key(seed).expose().to_owned();
        prop_assert_eq!(key.len(), 42);
        prop_assert!(PlainKey::choose(&key).is_ok());
        let mut characters: Vec<char> = key.chars().collect();
        prop_assume!(characters[position] != replacement);
        characters[position] = replacement;
        let changed: String = characters.into_iter().collect();
        let world = World::of(vec![key_service(SCORER, &key, K2)]);
        let request = Request::to(SCORER.0).header("authorization", format!("Bearer {changed}"));
        prop_assert!(!matches!(world.decide(&request), Outcome::Key(_)) || changed.trim() == key);
        // Without the prefix it may be anybody's own choice; with it, it has to be the checksum's.
        if position >= KEY_PREFIX.len() {
            let problem = PlainKey::choose(&changed).unwrap_err();
            prop_assert!(matches!(problem, InvalidKey::Checksum | InvalidKey::Characters));
        }
    }

    #[test]
    fn random_bytes_of_any_source_make_keys(bytes in prop::collection::vec(any::<u8>(), 64)) {
        prop_assume!(bytes.iter().any(|byte| *byte < 248));
        let mut source = bytes.iter().cycle();
        let key = PlainKey::generate(|buffer| buffer.fill_with(|| *source.next().unwrap_or(&0)));
        prop_assert!(PlainKey::choose(key.expose()).is_ok());
        prop_assert_eq!(key.expose().len(), 42);
    }
}

/// What one entry is set to. Services of different numbers may claim one place, never one name.
#[derive(Debug, Clone)]
enum Setting {
    Keys { place: u8 },
    Open { place: u8 },
    Tokens,
    Broken,
    Gone,
}

fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        (0..4_u8).prop_map(|place| Setting::Keys { place }),
        (0..4_u8).prop_map(|place| Setting::Open { place }),
        Just(Setting::Tokens),
        Just(Setting::Broken),
        Just(Setting::Gone),
    ]
}

const PREFIXES: [&str; 4] = ["/", "/a", "/b", "/a/b"];

fn entry_of(number: u8, setting: &Setting) -> Option<scoregate_authz::Entry> {
    let (name, uid) = (format!("service-{number}"), format!("uid-{number}"));
    let at = |policy: PolicyDocument, place: u8| at_place(policy, HOST, PREFIXES[usize::from(place)]);
    let policy = match setting {
        Setting::Keys { place } => Some(at(key_policy(&uid, K1, K2), *place)),
        Setting::Open { place } => Some(at(open_policy(), *place)),
        Setting::Tokens => Some(token_policy()),
        Setting::Broken => None,
        Setting::Gone => return None,
    };
    Some(service((&name, &uid), policy))
}

fn change_of(number: u8, setting: &Setting) -> EntryChange {
    let gone = EntryChange::Delete(service_id(&format!("uid-{number}")));
    entry_of(number, setting).map_or(gone, EntryChange::Put)
}

/// All that can be seen of a snapshot from outside.
#[derive(Debug, PartialEq)]
struct Seen {
    state_hash: StateHash,
    entries: Vec<EntryId>,
    contested: Vec<(String, String)>,
    outcomes: Vec<Outcome>,
    counts: [usize; 4],
}

const MODES: [Option<AuthMode>; 4] =
    [Some(AuthMode::Disabled), Some(AuthMode::Key), Some(AuthMode::Token), None];

/// What a walk over all services finds.
fn walked(snapshot: &Snapshot) -> ([usize; 4], Vec<String>) {
    let count = |mode| snapshot.services().filter(|service| service.auth_mode() == mode).count();
    let invalid = snapshot.services().filter(|service| service.problem().is_some());
    (MODES.map(count), invalid.map(|service| service.uid().to_string()).collect())
}

fn seen(snapshot: Snapshot) -> Seen {
    let state_hash = snapshot.state_hash();
    let counts = MODES.map(|mode| snapshot.services_in(mode));
    let invalid = snapshot.invalid_services().map(|service| service.uid().to_string()).collect();
    assert_eq!((counts, invalid), walked(&snapshot));
    let entries = snapshot.entries().map(|entry| entry.id().clone()).collect();
    let mut contested: Vec<_> =
        snapshot.contested_places().map(|(_, prefix, uid)| (prefix.to_owned(), uid.to_string())).collect();
    contested.sort();
    let by_name = World { snapshot, ..World::of(Vec::new()) };
    let mut outcomes: Vec<_> =
        (0..6).map(|number| by_name.decide(&Request::to(&format!("service-{number}")).bearer(K1))).collect();
    let by_host = by_name.by_host(PortRule::Any);
    outcomes.extend(PREFIXES.map(|path| by_host.decide(&Request::at(HOST, path).bearer(K2))));
    Seen { state_hash, entries, contested, outcomes, counts }
}

/// Or each change would cost as much as all services.
#[test]
fn t118_a_change_shares_what_it_does_not_touch() {
    let name = |number: usize| (format!("service-{number}"), format!("uid-{number:04}"));
    let service = |number, policy| {
        let (name, uid) = name(number);
        service((&name, &uid), Some(policy))
    };
    let before = snapshot_of((0..1_000).map(|number| service(number, token_policy())).collect()).unwrap();
    let after = changed(&before, vec![EntryChange::Put(service(500, open_policy()))]).unwrap();
    let pairs = before.entries().zip(after.entries());
    let is_copied = |(one, other): &(Entry, Entry)| !std::ptr::eq(one.content(), other.content());
    let copied = pairs.enumerate().filter(|(_, pair)| is_copied(pair));
    assert_eq!(copied.map(|(number, _)| number).collect::<Vec<_>>(), [500]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn changes_one_by_one_end_where_a_complete_snapshot_does(
        changes in prop::collection::vec(prop::collection::btree_map(0..6_u8, setting(), 1..4), 0..12),
    ) {
        let mut settings = BTreeMap::new();
        let mut snapshot = snapshot_of(Vec::new()).unwrap();
        for change in changes {
            let entries = change.iter().map(|(number, setting)| change_of(*number, setting)).collect();
            snapshot = changed(&snapshot, entries).unwrap();
            settings.extend(change);
        }
        let entries = settings.iter().filter_map(|(number, setting)| entry_of(*number, setting));
        let at_once = snapshot_of(entries.collect()).unwrap();
        prop_assert_eq!(seen(snapshot), seen(at_once));
    }

    #[test]
    fn a_wrong_hash_is_refused_and_changes_nothing(
        setting in setting(),
        byte in 0..32_usize,
        bit in 0..8_u8,
    ) {
        let before = snapshot_of(vec![key_service(SCORER, K1, K2)]).unwrap();
        let right = changed(&before, vec![change_of(2, &setting)]).unwrap();
        let mut stated = right.state_hash();
        stated.0[byte] ^= 1 << bit;
        let (from, to) = (before.version(), right.version());
        let refused = before.apply(from, to, vec![change_of(2, &setting)], stated);
        let computed = right.state_hash();
        prop_assert_eq!(refused.err(), Some(RefusedState::StateHash { stated, computed }));
        let complete = Snapshot::new("a-workspace".into(), to, vec![key_service(SCORER, K1, K2)], stated);
        prop_assert!(matches!(complete, Err(RefusedState::StateHash { .. })), "{complete:?}");
        let still = World { snapshot: before, ..World::of(Vec::new()) };
        prop_assert_eq!(still.decide(&Request::to(SCORER.0).bearer(K1)), Outcome::Key(scoregate_authz::Slot::Primary));
    }

    #[test]
    fn a_change_that_does_not_follow_is_refused(from in any::<(u8, u8)>(), to in any::<(u8, u8)>()) {
        let version = |(epoch, revision): (u8, u8)| Version { epoch: epoch.into(), revision: revision.into() };
        let (from, to) = (version(from), version(to));
        let before = snapshot_of(Vec::new()).unwrap();
        let stated = before.state_hash();
        let at = before.version();
        let expected = match (from == at, to.epoch == at.epoch && to.revision > at.revision) {
            (false, _) => Err(RefusedState::NotNext { from, at }),
            (true, false) => Err(RefusedState::Backwards { from, to }),
            (true, true) => Ok(to),
        };
        prop_assert_eq!(before.apply(from, to, Vec::new(), stated).map(|after| after.version()), expected.clone());
        let backwards = before.apply(at, to, Vec::new(), stated).map(|after| after.version());
        let leads_on = to.epoch == at.epoch && to.revision > at.revision;
        prop_assert_eq!(backwards.is_ok(), leads_on);
    }
}

#[test]
fn an_entry_twice_or_a_name_twice_is_refused() {
    let twice = || vec![key_service(SCORER, K1, K2), service(SCORER, Some(open_policy()))];
    assert_eq!(snapshot_of(twice()).err(), Some(RefusedState::EntryTwice(SCORER.1.into())));
    let one_name = vec![key_service(SCORER, K1, K2), service((SCORER.0, OTHER.1), Some(open_policy()))];
    assert_eq!(snapshot_of(one_name).err(), Some(RefusedState::NameTwice(SCORER.0.parse().unwrap())));
    let before = snapshot_of(vec![key_service(SCORER, K1, K2)]).unwrap();
    let put_and_gone =
        vec![EntryChange::Put(key_service(OTHER, K1, K2)), EntryChange::Delete(service_id(OTHER.1))];
    assert_eq!(changed(&before, put_and_gone).err(), Some(RefusedState::EntryTwice(OTHER.1.into())));
}

#[test]
fn the_tombstone_of_an_entry_that_never_was_changes_nothing() {
    let before = snapshot_of(vec![key_service(SCORER, K1, K2)]).unwrap();
    let after = changed(&before, vec![EntryChange::Delete(service_id("uid-never"))]).unwrap();
    assert_eq!(after.state_hash(), before.state_hash());
    assert_eq!(after.version().revision, before.version().revision + 1);
}
