//! Flow keys, filters, chunks, the protocols of moves and of shares: no I/O, no clock.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod chunk;
pub mod filter;
pub mod flow_id;
pub mod flow_key;
pub mod id;
pub mod mark;
pub mod merge;
pub mod prefix;
pub mod protocol;
pub mod quote;
pub mod share;
pub mod southbound;
pub mod state_filter;
pub mod steering_hash;
pub mod time;
pub mod transfer;
pub mod wire;

pub use bucket::{BUCKETS, Bucket, BucketSet, BucketSetError};
pub use chunk::Chunk;
pub use filter::{Filter, Selection};
pub use flow_id::FlowId;
pub use flow_key::FlowKey;
pub use id::{InstanceId, MoveId, PortId, ServiceId, ShareId, WorkerId};
pub use prefix::Prefix;
pub use state_filter::StateFilter;
pub use steering_hash::SteeringHash;
pub use time::Nanos;
