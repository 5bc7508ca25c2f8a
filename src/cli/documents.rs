//! The commands that the documents tell people to type are commands of this program.

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const REASONS: &str = include_str!("../../docs/reasons.md");
const ACI: &str = include_str!("../../docs/aci.md");
const TROUBLESHOOTING: &str = include_str!("../../docs/troubleshooting.md");
const MIGRATING: &str = include_str!("../../docs/migrate-from-azureml-v1.md");
const INSTALL: &str = include_str!("../../docs/install/README.md");
const BARE_ENVOY: &str = include_str!("../../docs/install/bare-envoy.md");
const AKS_INGRESS: &str = include_str!("../../docs/install/aks-ingress.md");
const ISTIO: &str = include_str!("../../docs/install/istio.md");
const ISTIO_ADD_ON: &str = include_str!("../../docs/install/istio-aks-addon.md");
const ENVOY_GATEWAY: &str = include_str!("../../docs/install/envoy-gateway.md");
const ADVICE: &str = include_str!("doctor/finding.rs");

#[test]
fn every_command_in_the_documents_is_one() {
    for (document, at_least) in [
        (README, 30),
        (OPERATIONS, 35),
        (REASONS, 1),
        (ACI, 7),
        (ADVICE, 5),
        (TROUBLESHOOTING, 10),
        (MIGRATING, 10),
        (INSTALL, 10),
        (BARE_ENVOY, 10),
        (AKS_INGRESS, 3),
        (ISTIO, 2),
        (ISTIO_ADD_ON, 2),
        (ENVOY_GATEWAY, 2),
    ] {
        let commands = commands(document);
        assert!(commands.len() >= at_least, "only {} commands were found", commands.len());
        for words in commands {
            let parsed = Cli::try_parse_from(&words).map(|_| ()).map_err(|error| (error.kind(), error));
            assert!(
                matches!(parsed, Ok(()) | Err((ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _))),
                "{}:\n{}",
                words.join(" "),
                parsed.unwrap_err().1
            );
        }
    }
}

#[test]
fn commands_are_found_where_a_shell_would_find_them() {
    let text = "x `scoregate\ntoken get NAME` x\n```sh\nfor s in $(scoregate service list | jq); do\n    \
                scoregate key show \"$s\" --output json > 'a b'  # scoregate not this\ndone\n\
                scoregate gate --feed x \\\n    --name \"a b\"\nkubectl exec pod -- scoregate explain --last\n```\n";
    let expected = [
        "scoregate service list",
        "scoregate key show my-model --output json",
        "scoregate gate --feed x --name a b",
        "scoregate explain --last",
        "scoregate token get my-model",
    ];
    let found: Vec<_> = commands(text).iter().map(|words| words.join(" ")).collect();
    assert_eq!(found, expected);
}

/// Those of blocks for a shell, and those in running text.
fn commands(document: &str) -> Vec<Vec<String>> {
    let mut parts = document.split("```");
    let mut running = parts.next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    while let (Some(block), text) = (parts.next(), parts.next()) {
        if let Some(script) = block.strip_prefix("sh\n") {
            found.extend(script.replace("\\\n", " ").lines().flat_map(commands_of_line));
        }
        running.push_str(text.unwrap_or_default());
    }
    // In Rust's texts, a line may end in the middle of a sentence.
    let running = running.replace("\\\n", " ");
    let spans = running.split('`').skip(1).step_by(2);
    found.extend(spans.flat_map(|span| commands_of_line(&span.replace('\n', " "))));
    found
}

fn commands_of_line(line: &str) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let (mut word, mut quote, mut has_word) = (String::new(), None, false);
    for character in line.chars().chain([' ']) {
        match (quote, character) {
            (Some(end), _) if character == end => quote = None,
            (Some(_), _) => word.push(character),
            (None, '\'' | '"') => (quote, has_word) = (Some(character), true),
            (None, '#') if word.is_empty() && !has_word => break,
            (None, ' ' | '|' | ';' | '&' | '<' | '>' | '(' | ')') => {
                if has_word {
                    commands.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                has_word = false;
                word.clear();
                if character != ' ' {
                    commands.push(Vec::new());
                }
            }
            (None, _) => {
                word.push(character);
                has_word = true;
            }
        }
    }
    commands.into_iter().filter_map(command).collect()
}

fn command(words: Vec<String>) -> Option<Vec<String>> {
    // `kubectl exec POD -- COMMAND` runs it elsewhere.
    let elsewhere = words.iter().position(|word| word == "--").filter(|_| words[0] == "kubectl");
    let words = words.into_iter().skip(elsewhere.map_or(0, |end| end + 1));
    let words: Vec<_> = words.skip_while(|word| word == "do").collect();
    let placeholder =
        |word: String| if word.starts_with('$') || word == "NAME" { "my-model".to_owned() } else { word };
    let is_ours = words.len() > 1 && words.first().is_some_and(|word| word == "scoregate");
    is_ours.then(|| words.into_iter().map(placeholder).collect())
}
