//! Flow keys, filters, chunks and the move protocol: no I/O, no clock.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod filter;
pub mod flow_key;
pub mod id;
pub mod mark;
pub mod prefix;
pub mod protocol;
pub mod steering_hash;
pub mod time;

pub use bucket::{BUCKETS, Bucket, BucketSet, BucketSetError};
pub use filter::{Filter, Selection};
pub use flow_key::FlowKey;
pub use id::{InstanceId, MoveId, PortId, ServiceId, WorkerId};
pub use prefix::Prefix;
pub use steering_hash::SteeringHash;
pub use time::Nanos;
