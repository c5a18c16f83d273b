//! Readers that ask for long listings and take nothing of them.

use std::time::Duration;

use tonic::Code;
use weir_api::v1::{ListFlowsRequest, OperationState, flow_service_client::FlowServiceClient};

use crate::support::node::{Node, block_on, limited};

/// More than the windows of one connection to the data plane hold together.
const READERS: usize = 8;
const MESSAGES: u64 = 256;

#[test]
fn readers_that_take_nothing_hold_up_nobody_and_are_cut_off() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        let mut unread = Vec::new();
        for _ in 0..READERS {
            let mut client = FlowServiceClient::new(running.channel().await);
            let ask = ListFlowsRequest { limit: MESSAGES, ..Default::default() };
            unread.push(client.list_flows(ask).await.unwrap().into_inner());
        }
        assert_eq!(node.fake.listings(), READERS);
        for (instances, request) in [(3, "out"), (1, "in")] {
            let ended = limited(running.scale(instances, request)).await;
            assert_eq!(ended.state(), OperationState::Done, "{}", ended.reason);
        }
        assert_eq!(node.fake.listings(), READERS, "none has been read or cut off yet");
        limited(async {
            while node.fake.listings() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        // What they have is not all that there is, and they are told so.
        for mut stream in unread {
            let status = loop {
                match limited(stream.message()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a listing that was cut off ended as if it were whole"),
                    Err(status) => break status,
                }
            };
            assert_eq!(status.code(), Code::Aborted, "{status:?}");
        }
    });
}
