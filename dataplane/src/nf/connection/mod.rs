//! Connection tracking: to which connection a packet belongs, and whether it fits in there.
//!
//! A [`Connection`] is the state of both directions of a flow as somebody in the middle sees them.
//! Packets and time go in, a [`Tracked`] comes out; what becomes of the packet is for the network
//! function to say.

mod codec;
mod echo;
mod exchange;
mod invalid;
mod packet;
mod segment;
mod southbound;
mod state;
mod tcp;
#[cfg(test)]
pub(crate) mod tests;
mod timeout;
mod window;

use weir_state_transfer::{FlowKey, Nanos, protocol};

pub use codec::BODY_MAX;
use echo::Echo;
use exchange::Exchange;
pub use invalid::Invalid;
pub use packet::Packet;
use tcp::Tcp;
pub use timeout::{TIMEOUT_MAX, TcpTimeouts, TimeoutError, Timeouts};

/// How connections are tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long a connection stays without a packet.
    pub timeouts: Timeouts,
    /// Whether TCP connections are taken up in the middle, of which no SYN was seen. Their windows
    /// can not be known, so packets outside of them pass. Default: no.
    pub pick_up: bool,
}

/// The state of a connection, of both its directions.
///
/// All of it travels when its flow is moved, so one that is encoded and decoded between any two
/// packets goes on as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The flow of its first packet.
    key: FlowKey,
    /// When it ends if no packet comes.
    deadline: Nanos,
    protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp(Tcp),
    Echo(Echo),
    Exchange(Exchange),
}

/// What a packet is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// It belongs to a connection that nobody has answered yet.
    New,
    /// It belongs to a connection that has been answered.
    Established,
    /// It is an ICMP error about a packet of the connection.
    Related,
    /// It begins something that is to be judged like the first packet of a connection: another
    /// TCP connection where this one has ended, or an echo with another identifier. Nothing has
    /// changed; [`Connection::begin`] lets it.
    Begins,
    /// It does not belong to the connection, though its addresses say so. Nothing that the
    /// endpoints would notice has changed.
    Invalid(Invalid),
}

/// The direction of a packet in its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Direction {
    /// That of the first packet.
    #[default]
    Original,
    /// The other.
    Reply,
}

impl Connection {
    /// The connection that a packet begins.
    ///
    /// # Errors
    /// When no connection begins like that.
    pub fn open(packet: &Packet<'_>, now: Nanos, settings: &Settings) -> Result<Self, Invalid> {
        if packet.is_error() {
            return Err(Invalid::UnrelatedError);
        }
        let timeouts = &settings.timeouts;
        let (protocol, timeout) = match packet.protocol() {
            protocol::TCP => {
                let tcp = Tcp::open(&packet.segment()?, settings)?;
                let timeout = tcp.timeout(&timeouts.tcp);
                (Protocol::Tcp(tcp), timeout)
            }
            protocol::ICMP | protocol::ICMPV6 => {
                (Protocol::Echo(Echo::open(packet.query()?)?), timeouts.icmp)
            }
            number => {
                packet.check_datagram()?;
                let exchange = Exchange::default();
                (Protocol::Exchange(exchange), exchange.timeout(number, timeouts))
            }
        };
        Ok(Self { key: *packet.key(), deadline: now + timeout, protocol })
    }

    /// Finds out what a packet with the key of the connection, or its reverse, is to it, and
    /// notes it.
    pub fn track(&mut self, packet: &Packet<'_>, now: Nanos, settings: &Settings) -> Tracked {
        let tracked = if packet.is_error() {
            self.relate(packet)
        } else {
            self.follow(packet, now, settings)
        };
        tracked.unwrap_or_else(Tracked::Invalid)
    }

    /// Lets a packet begin what [`Tracked::Begins`] has said that it would.
    ///
    /// # Errors
    /// When no connection begins like that.
    pub fn begin(
        &mut self,
        packet: &Packet<'_>,
        now: Nanos,
        settings: &Settings,
    ) -> Result<(), Invalid> {
        match &mut self.protocol {
            Protocol::Echo(echo) => {
                echo.begin(packet.query()?, Direction::of(packet.key(), &self.key))?;
                self.deadline = now + settings.timeouts.icmp;
            }
            Protocol::Tcp(_) | Protocol::Exchange(_) => *self = Self::open(packet, now, settings)?,
        }
        Ok(())
    }

    /// The flow of its first packet: who began it, and with whom.
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// When it ends if no packet comes.
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// Whether it has ended.
    #[inline]
    pub fn is_over(&self, now: Nanos) -> bool {
        now >= self.deadline
    }

    /// Whether it has closed: a FIN of each end was acknowledged, or one end has reset it. It stays
    /// until it is over, for what is still under way, and a packet may open it again.
    #[inline]
    pub fn is_closed(&self) -> bool {
        match &self.protocol {
            Protocol::Tcp(tcp) => tcp.state.is_closed(),
            Protocol::Echo(_) | Protocol::Exchange(_) => false,
        }
    }

    fn relate(&mut self, packet: &Packet<'_>) -> Result<Tracked, Invalid> {
        if let Protocol::Echo(echo) = &mut self.protocol {
            // The key is that of the quoted packet, reversed.
            let direction = Direction::of(packet.key(), &self.key).opposite();
            echo.check_error(packet.quoted_query()?, direction)?;
        }
        Ok(Tracked::Related)
    }

    fn follow(
        &mut self,
        packet: &Packet<'_>,
        now: Nanos,
        settings: &Settings,
    ) -> Result<Tracked, Invalid> {
        let direction = Direction::of(packet.key(), &self.key);
        let timeouts = &settings.timeouts;
        match &mut self.protocol {
            Protocol::Tcp(tcp) => {
                let left = self.deadline.since(now);
                let (tracked, left) =
                    tcp.follow(&packet.segment()?, direction, left, &timeouts.tcp);
                self.deadline = now + left;
                Ok(tracked)
            }
            Protocol::Echo(echo) => {
                let tracked = echo.follow(packet.query()?, direction)?;
                if tracked != Tracked::Begins {
                    self.deadline = now + timeouts.icmp;
                }
                Ok(tracked)
            }
            Protocol::Exchange(exchange) => {
                packet.check_datagram()?;
                let tracked = exchange.follow(direction);
                self.deadline = now + exchange.timeout(self.key.protocol(), timeouts);
                Ok(tracked)
            }
        }
    }
}

impl Direction {
    fn of(packet: &FlowKey, first: &FlowKey) -> Self {
        if packet == first { Self::Original } else { Self::Reply }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}
