//! `/scoregate/v1/workspace`

use reqwest::Method;

use crate::harness::TestWorkspace;

#[tokio::test]
async fn workspace_tells_its_scope() {
    let test = TestWorkspace::start().await;
    let answer = test.request(Method::GET, "/scoregate/v1/workspace").send().await;
    insta::assert_json_snapshot!(answer.stable_without("version"), @r#"
    {
      "id": "{uuid}",
      "issuer": "https://issuer.example",
      "scope": "/subscriptions/sub/resourceGroups/group/providers/Microsoft.MachineLearningServices/workspaces/ws",
      "version": "{...}"
    }
    "#);
}
