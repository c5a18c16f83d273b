//! What becomes of an operation whose task does not come to its end.

use weir_state_transfer::{StateFilter, chunk::Scope};

use super::*;
use crate::{
    config::Config,
    state_manager::{end::End, operation::CopyAsked},
};

/// How long a test waits for an event before it fails.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_operation_whose_task_panics_has_failed_and_says_so() {
    let folder = std::env::temp_dir().join(format!("weir-control-panic-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let root = folder.display();
    let text = format!(
        "[control]\nsocket = '{root}/c.sock'\ndataplane_socket = '{root}/d.sock'\n\
         store = '{root}/store/control.db'\n"
    );
    let config = Config::parse(&text, "weir.toml").expect("a configuration");
    let sidecar = Sidecar::start(config, None).await.expect("it starts");
    let [from, to] = ["a", "b"].map(|name| End::Nf(name.to_owned()));
    let scopes = [Scope::MultiFlow].into();
    let copy = Asked::Copy(CopyAsked { from, to, filter: StateFilter::default(), scopes });
    let begun = sidecar.begin_operation(copy, "r", None).await.expect("it begins");
    let (operation, reins, _reader) = begun;
    let task = tokio::spawn(async move {
        tokio::task::yield_now().await;
        panic!("a fault of {reins:?}");
    });
    assert!(task.await.is_err_and(|error| error.is_panic()));
    let mut table = sidecar.state().watch();
    let ended = table.wait_for(|table| {
        table.find(operation.id).is_some_and(|operation| operation.state.ended())
    });
    let ended = tokio::time::timeout(LIMIT, ended).await.expect("it ends").expect("a table");
    let ended = ended.find(operation.id).expect("it is remembered");
    assert_eq!(ended.state, State::Failed);
    let kind = ended.failure.as_ref().map(|failure| &failure.kind);
    assert_eq!(kind, Some(&FailureKind::Internal));
    // A test that fails before leaves it.
    std::fs::remove_dir_all(&folder).expect("it is there");
}
