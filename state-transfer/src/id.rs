//! Small numbers with a name: which instance, worker, port, service, move or share is meant.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Declares a newtype over an unsigned integer that prints as the bare number.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A switch instance of this node.
    InstanceId(u8)
}
id! {
    /// A worker thread of this node.
    WorkerId(u8)
}
id! {
    /// A port of this node.
    PortId(u8)
}
id! {
    /// The service that a flow belongs to; flows of different services never meet.
    ServiceId(u16)
}
id! {
    /// A move; never reused while the process lives.
    MoveId(u64)
}
id! {
    /// A share; never reused while the process lives.
    ShareId(u64)
}
