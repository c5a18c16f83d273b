//! Policy routes over the API.

use tonic::Code;
use tonic_types::StatusExt as _;
use weir_api::dataplane::v1 as api;

use super::change;
use super::served::Served;

#[tokio::test]
async fn policy_routes_are_put_listed_and_removed_and_all_workers_go_by_them() {
    let served = Served::start("");
    let mut client = served.policies().await;
    let named = |name: &str, before: &str| api::PolicyRoute {
        name: name.to_owned(),
        filter: "proto=udp".to_owned(),
        port: "null".to_owned(),
        before: before.to_owned(),
        ..api::PolicyRoute::default()
    };
    let put = |routes| api::PutPolicyRoutesRequest { change: change("put"), routes };
    client.put_policy_routes(put(vec![named("b", ""), named("a", "b")])).await.unwrap();
    client.put_policy_routes(put(vec![named("b", ""), named("a", "b")])).await.unwrap();
    let listed = loop {
        let listed = client.list_policy_routes(api::ListPolicyRoutesRequest {}).await;
        let listed = listed.unwrap().into_inner();
        if listed.adopted {
            break listed;
        }
        tokio::task::yield_now().await;
    };
    let names: Vec<_> = listed.routes.into_iter().map(|state| state.route.unwrap().name).collect();
    assert_eq!(names, ["a", "b"]);

    let many = vec![named("a", ""); 65];
    let many = api::PutPolicyRoutesRequest { change: change("many"), routes: many };
    let refused = client.put_policy_routes(many).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let remove = |names: &[&str]| api::RemovePolicyRoutesRequest {
        change: None,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let refused = client.remove_policy_routes(remove(&["a", "c"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["object"], "policies/c");
    client.remove_policy_routes(remove(&["a", "b"])).await.unwrap();
    let listed = client.list_policy_routes(api::ListPolicyRoutesRequest {}).await.unwrap();
    assert!(listed.into_inner().routes.is_empty());
    served.stop().await;
}
