//! Why a packet does not belong to a connection.

/// Why a packet belongs to no connection, or does not fit in the one that its addresses name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Invalid {
    /// A fragment: its ports are not known.
    Fragment,
    /// It ends inside its transport header, or that says a length that can not be.
    BadHeader,
    /// TCP flags that no segment has together (RFC 9293, section 3.10).
    BadFlags,
    /// A TCP segment that is not a SYN, of no connection that is known.
    NoConnection,
    /// A TCP segment that its sender does not send in the state of the connection.
    UnexpectedSegment,
    /// Data beyond what the receiver allows.
    BeyondWindow,
    /// It acknowledges data that was not seen.
    AckOfUnsent,
    /// A reset whose sequence number is none that the receiver takes (RFC 5961, section 3).
    BadReset,
    /// An ICMP message that is neither an echo nor an error.
    UnsupportedIcmp,
    /// An echo reply that nobody asked for.
    UnaskedReply,
    /// An ICMP error about a packet of no connection that is known.
    UnrelatedError,
}

impl Invalid {
    /// How many there are.
    pub const COUNT: usize = Self::UnrelatedError as usize + 1;

    /// Every one, each at the place of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Fragment,
        Self::BadHeader,
        Self::BadFlags,
        Self::NoConnection,
        Self::UnexpectedSegment,
        Self::BeyondWindow,
        Self::AckOfUnsent,
        Self::BadReset,
        Self::UnsupportedIcmp,
        Self::UnaskedReply,
        Self::UnrelatedError,
    ];

    /// Its name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fragment => "fragment",
            Self::BadHeader => "bad_header",
            Self::BadFlags => "bad_flags",
            Self::NoConnection => "no_connection",
            Self::UnexpectedSegment => "unexpected_segment",
            Self::BeyondWindow => "beyond_window",
            Self::AckOfUnsent => "ack_of_unsent",
            Self::BadReset => "bad_reset",
            Self::UnsupportedIcmp => "unsupported_icmp",
            Self::UnaskedReply => "unasked_reply",
            Self::UnrelatedError => "unrelated_error",
        }
    }
}
