//! `{workspace}/models`

use serde_json::json;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn models_are_stand_ins() {
    let test = TestWorkspace::start().await;
    let model = test.get("/models/m%3A7").await.body;
    assert_eq!((&model["id"], &model["name"], &model["version"]), (&json!("m:7"), &json!("m"), &json!(7)));
    let list = test.get("/models?name=m&count=1").await.body;
    assert_eq!(list["value"][0]["id"], "m:1");
    assert_eq!(test.get("/models").await.body, json!({ "value": [] }));
    let answer = test.get("/models/no%2Fmodel.pkl").await;
    assert_eq!((answer.status.as_u16(), answer.message()), (404, "there is no model `no/model.pkl`"));
}

#[tokio::test]
async fn services_are_found_by_their_models() {
    let test = TestWorkspace::start().await;
    let with_model = |id: &str| json!({ "environmentImageRequest": { "modelIds": [id] } });
    test.create("one", with_model("m:1")).await;
    test.create("two", with_model("m:2")).await;
    test.create("three", json!({})).await;
    let cases =
        [("modelId=m%3A1", vec!["one"]), ("modelName=m", vec!["two", "one"]), ("modelName=x", vec![])];
    for (query, expected) in cases {
        let list = test.get(&format!("/services?{query}")).await.body;
        let names: Vec<_> = list["value"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
        assert_eq!(names, expected, "{query}");
    }
    let mut overwrite = with_model("m:3");
    overwrite["overwrite"] = json!(true);
    test.create("one", overwrite).await;
    let properties = test.get("/services/one").await.body["properties"].clone();
    assert_eq!(properties, json!({ "scoregate.model.m": "3" }));
}
