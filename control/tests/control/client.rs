//! The client library against a sidecar: shares, over TLS.

use std::time::Duration;

use weir_api::dataplane::v1::SharePhase;
use weir_client::{
    Client, ConnectError, Share, ShareMode, StateFailure, StateOperationState as State, TlsFiles,
};

use crate::{
    share::{TWO, until},
    support::node::{Node, block_on, limited},
    tls::authority,
};

/// The files of who has a certificate of an authority.
fn files(authority: &str, name: &str) -> TlsFiles {
    let file = |name: &str| format!("{authority}/{name}").into();
    TlsFiles {
        ca: file("ca.crt"),
        cert: file(&format!("{name}.crt")),
        key: file(&format!("{name}.key")),
    }
}

#[test]
fn an_application_has_instances_share_over_tls_and_says_which() {
    let node = Node::new(3);
    let [ours, theirs] = ["ours", "theirs"].map(|name| authority(&node.directory.0.join(name)));
    let control = format!(
        "listen = '127.0.0.1:0'\n[control.tls]\nca = '{ours}/ca.crt'\n\
         cert = '{ours}/edge.crt'\nkey = '{ours}/edge.key'\n"
    );
    let running = node.start_with(&control, None);
    let address = format!("localhost:{}", running.listening.unwrap().port());
    block_on(async {
        let client = Client::tls(&address, &files(&ours, "alice")).await.unwrap();
        let mut begun = client.begin_share(&Share::new(TWO, "src=10.0.0.0/8")).await.unwrap();
        let share = limited(begun.in_force()).await.unwrap();
        assert_eq!(
            (share.state(), share.share.unwrap().phase()),
            (State::Running, SharePhase::Steady)
        );
        assert_eq!(share.instances, ["instance/sw1", "instance/sw2"]);
        client.change_share(share.id, &["sw1", "sw2", "3"]).await.unwrap();
        assert_eq!(node.fake.model().share(1).unwrap().instances, [1, 2, 3]);
        until(&node, 1, &[SharePhase::Steady]).await;
        let few = client.change_share(share.id, &["sw1"]).await.unwrap_err();
        assert_eq!(few.reason(), Some("INSTANCES"));
        // Another of the same is in the way, and says by which number.
        let other = client.share(&Share::new(TWO, "any")).await.unwrap_err();
        assert_eq!(other.in_the_way(), Some(share.id), "{other}");
        client.cancel(share.id).await.unwrap();
        let ended = limited(begun.outcome()).await.unwrap_err();
        assert_eq!(ended.failure(), Some(StateFailure::Cancelled), "{ended}");
        // One with a limit is done when its time is over.
        let strict = Share {
            mode: ShareMode::Strict,
            limit: Some(Duration::from_secs(2)),
            ..Share::new(TWO, "any")
        };
        let (id, follows) = limited(client.share(&strict)).await.unwrap();
        assert_eq!(node.fake.model().share(2).unwrap().mode(), ShareMode::Strict);
        assert_eq!(limited(follows.outcome()).await.unwrap().id, id);

        let viewer = Client::tls(&address, &files(&ours, "bob")).await.unwrap();
        assert_eq!(viewer.operations().await.unwrap().len(), 2);
        let refused = viewer.share(&strict).await.unwrap_err();
        assert_eq!(refused.reason(), Some("ROLE_TOO_LOW"), "{refused}");
        // A sidecar that it does not trust, and a key that is none.
        let mut strange = files(&ours, "alice");
        strange.ca = files(&theirs, "alice").ca;
        let stranger = Client::tls(&address, &strange).await.unwrap_err();
        assert!(matches!(stranger, ConnectError::Unreachable { .. }), "{stranger:?}");
        strange.key = strange.ca.clone();
        let keyless = Client::tls(&address, &strange).await.unwrap_err();
        assert!(matches!(keyless, ConnectError::Certificate { .. }), "{keyless:?}");
    });
}
