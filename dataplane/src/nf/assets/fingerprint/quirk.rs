//! What is peculiar about the headers of a SYN or SYN+ACK, by name.

use weir_state_transfer::wire::{Reader, WireError, Writer};

/// Declares the quirks with their names in fingerprints.
macro_rules! quirks {
    ($($(#[$doc:meta])* $quirk:ident = $name:literal,)*) => {
        /// Something peculiar.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Quirk {
            $($(#[$doc])* $quirk,)*
        }

        impl Quirk {
            /// All of them, in the order of fingerprints.
            pub const ALL: &[Self] = &[$(Self::$quirk,)*];

            /// Its name in fingerprints.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$quirk => $name,)*
                }
            }
        }
    };
}

quirks! {
    /// IPv4: fragmentation is forbidden.
    DontFragment = "df",
    /// IPv4: an identification, though fragmentation is forbidden.
    NeedlessId = "id+",
    /// IPv4: no identification, though the packet may be fragmented.
    MissingId = "id-",
    /// Explicit congestion notification is offered, in the IP header or in that of TCP.
    Congestion = "ecn",
    /// IPv4: the reserved flag is set.
    Reserved = "0+",
    /// IPv6: a flow label.
    FlowLabel = "flow",
    /// The sequence number is zero.
    ZeroSequence = "seq-",
    /// An acknowledgement number without its flag.
    NeedlessAck = "ack+",
    /// The flag of an acknowledgement number, which is zero.
    ZeroAck = "ack-",
    /// An urgent pointer without its flag.
    NeedlessUrgent = "uptr+",
    /// The flag of an urgent pointer.
    Urgent = "urgf+",
    /// The flag that data is to be pushed.
    Push = "pushf+",
    /// The own time stamp is zero.
    ZeroTime = "ts1-",
    /// A time stamp of the other end in a SYN, to which there is none yet.
    EchoedTime = "ts2+",
    /// Something else than zeros behind the end of the options.
    Padding = "opt+",
    /// A window scale beyond 14 (RFC 7323, section 2.3).
    LargeScale = "exws",
    /// Options that are cut off, or not as long as they should be.
    BadOptions = "bad",
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quirks(u32);

impl Quirks {
    /// Those that only one version of IP has.
    pub(super) const OF_ONE_VERSION: [Quirk; 5] = [
        Quirk::DontFragment,
        Quirk::NeedlessId,
        Quirk::MissingId,
        Quirk::Reserved,
        Quirk::FlowLabel,
    ];

    /// Adds one, if `is` says so.
    pub(super) fn add_if(&mut self, is: bool, quirk: Quirk) {
        self.0 |= u32::from(is) << quirk as u32;
    }

    /// Whether one is in the set.
    pub fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u32) != 0
    }

    /// The set without some.
    pub(super) fn without(self, quirks: &[Quirk]) -> Self {
        Self(quirks.iter().fold(self.0, |bits, quirk| bits & !(1 << *quirk as u32)))
    }

    /// The set whose names stand in a text, with commas in between.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            set.add_if(true, *Quirk::ALL.iter().find(|quirk| quirk.name() == name)?);
        }
        Some(set)
    }

    pub(super) fn put(self, out: &mut Writer) {
        out.u32(self.0);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bits = reader.u32()?;
        if bits >> Quirk::ALL.len() == 0 {
            Ok(Self(bits))
        } else {
            Err(WireError::BadField { what: "set of quirks" })
        }
    }
}

impl std::fmt::Display for Quirks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Quirk::ALL.iter().filter(|quirk| self.has(**quirk)).map(|quirk| quirk.name());
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}
