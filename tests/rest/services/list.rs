//! `GET {workspace}/services`

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::TestWorkspace;

fn names(page: &Value) -> Vec<String> {
    let services = page["value"].as_array().unwrap();
    services.iter().map(|service| service["name"].as_str().unwrap().to_owned()).collect()
}

/// Follows `nextLink` as it stands, like Azure's clients.
async fn all_pages(test: &TestWorkspace, query: &str) -> Vec<Vec<String>> {
    let mut path = TestWorkspace::path(&format!("/services{query}"));
    let mut pages = Vec::new();
    loop {
        let answer = test.request(Method::GET, &path).send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        pages.push(names(&answer.body));
        // A member that is null would be followed, too.
        match answer.body.get("nextLink") {
            None => return pages,
            Some(link) => {
                path = link.as_str().unwrap().strip_prefix(&test.base).expect("it is absolute").to_owned();
            }
        }
    }
}

#[tokio::test]
async fn list_of_nothing_is_an_empty_last_page() {
    let test = TestWorkspace::start().await;
    assert_eq!(test.get("/services?expand=true").await.body, json!({ "value": [] }));
}

#[tokio::test]
async fn list_of_120_services_comes_in_pages_with_its_filters() {
    let test = TestWorkspace::start().await;
    let expected: Vec<String> = (0..120).map(|index| format!("svc-{index:03}")).collect();
    for (index, name) in expected.iter().enumerate() {
        test.create(name, json!({ "kvTags": { "half": (index % 2).to_string(), "é": "a&b=c" } })).await;
    }
    let pages = all_pages(&test, "?expand=true&orderby=CreatedAtAsc").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 20]);
    assert_eq!(pages.concat(), expected);

    let odd =
        all_pages(&test, "?expand=true&count=7&orderby=CreatedAtAsc&tags=half%3D1%2C%C3%A9&computeType=aks");
    let odd = odd.await;
    assert_eq!(odd.len(), 9);
    let expected_odd: Vec<_> = expected.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(odd.concat(), expected_odd);

    let exact = all_pages(&test, "?count=60").await;
    assert_eq!(exact.iter().map(Vec::len).collect::<Vec<_>>(), [60, 60]);
    for count in ["9999", "99999999999"] {
        assert_eq!(all_pages(&test, &format!("?count={count}")).await.len(), 1);
    }
}

#[tokio::test]
async fn list_filters() {
    let test = TestWorkspace::start().await;
    test.create("one", json!({ "kvTags": { "a": "1" }, "properties": { "p": "x" } })).await;
    test.create("two", json!({ "kvTags": { "a": "2", "b": "3" } })).await;
    test.create("three", json!({ "computeType": "ACI", "scoregate": { "hosts": ["three.example"] } })).await;
    let cases = [
        ("?orderby=CreatedAtAsc", &["one", "two", "three"][..]),
        ("", &["three", "two", "one"]),
        ("?computeType=aKs&orderby=CreatedAtAsc", &["one", "two"]),
        ("?computeType=ACI", &["three"]),
        ("?computeType=MIR", &[]),
        ("?tags=a&orderby=CreatedAtAsc", &["one", "two"]),
        ("?tags=a%3D2", &["two"]),
        ("?tags=a%3D2%2Cb%3D3", &["two"]),
        ("?tags=a%3D1%2Cb", &[]),
        ("?tag=b", &["two"]),
        ("?properties=p%3Dx", &["one"]),
        ("?properties=p%3Dy", &[]),
        ("?name=two", &["two"]),
        ("?name=tw", &[]),
        ("?modelName=m", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(all_pages(&test, query).await.concat(), expected, "{query}");
    }
}
