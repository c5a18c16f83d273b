//! Both ends of a transfer: what each refuses, and what becomes of it in random schedules.

mod model;
mod random;
mod refusals;
mod verdicts;

use super::{Amount, Destination, DestinationCommand, Hasher, Message, Opened, Reply, Summary};
use crate::{
    FlowId, FlowKey, Nanos, ServiceId,
    chunk::{Chunk, Schema, Scope},
};

const FLOW: (Scope, Schema) = (Scope::PerFlow, Schema { kind: 0x7101, revision: 1 });
const HOST: (Scope, Schema) = (Scope::MultiFlow, Schema { kind: 0x7102, revision: 1 });

/// The flow of a client's port.
fn id(port: u16) -> FlowId {
    let (src, dst) = ([10, 0, 0, 1].into(), [192, 168, 0, 1].into());
    FlowId::flow(&FlowKey::v4(src, dst, (port, 80), 6, ServiceId(0)))
}

fn chunk((scope, schema): (Scope, Schema), port: u16, body: &[u8]) -> Vec<u8> {
    let chunk = Chunk {
        id: id(port),
        scope,
        schema,
        version: 1,
        age: std::time::Duration::ZERO,
        time_left: None,
        body: body.to_vec(),
    };
    chunk.encode().expect("a chunk")
}

fn flow(port: u16) -> Vec<u8> {
    chunk(FLOW, port, &port.to_be_bytes())
}

fn opened(filter: &str) -> Opened {
    Opened {
        filter: filter.parse().expect("a filter"),
        scopes: vec![Scope::PerFlow, Scope::MultiFlow],
        kinds: vec![FLOW, HOST],
    }
}

/// A destination that is ready, and has said so.
fn ready(filter: &str) -> Destination {
    let mut destination =
        Destination::new(opened(filter), &[FLOW, HOST]).expect("it has all kinds");
    destination.ready(Nanos(1));
    assert!(matches!(
        destination.poll_command(),
        Some(DestinationCommand::Reply(Reply::Credit(_)))
    ));
    destination
}

fn chunks(first: u64, chunks: &[Vec<u8>]) -> Message {
    Message::Chunks { first, chunks: chunks.to_vec() }
}

fn summary(chunks: &[Vec<u8>]) -> Summary {
    let (mut amount, mut hasher) = (Amount::default(), Hasher::default());
    for chunk in chunks {
        amount.add(chunk);
        hasher.add(chunk);
    }
    Summary { amount, digest: hasher.digest() }
}

/// Puts what is to be put; what else the driver was told to do.
fn put_all(destination: &mut Destination, now: Nanos) -> Vec<DestinationCommand> {
    let mut others = Vec::new();
    while let Some(next) = destination.poll_command() {
        let DestinationCommand::Put(pieces) = next else {
            others.push(next);
            continue;
        };
        let mut amount = Amount::default();
        pieces.iter().for_each(|piece| amount.add(&piece.bytes));
        destination.taken(amount, now);
    }
    others
}
