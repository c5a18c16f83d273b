//! How long connections stay without a packet. The defaults are those of Linux.

use std::time::Duration;

use super::state::State;

/// The longest time-out that is accepted.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Time-outs of connections, by protocol and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Those of TCP.
    pub tcp: TcpTimeouts,
    /// UDP that nobody has answered; default 30 s.
    pub udp_unreplied: Duration,
    /// UDP that has been answered; default 120 s.
    pub udp_replied: Duration,
    /// Echoes of ICMP and ICMPv6; default 30 s.
    pub icmp: Duration,
    /// Every other protocol; default 600 s.
    pub other: Duration,
}

/// Time-outs of TCP connections, by state as somebody in the middle sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// One end has sent a SYN, or both at once; default 120 s.
    pub syn_sent: Duration,
    /// The SYN was answered; default 60 s.
    pub syn_received: Duration,
    /// Both ends are connected; default 5 days.
    pub established: Duration,
    /// One end has sent a FIN; default 120 s.
    pub fin_wait: Duration,
    /// The FIN was acknowledged; default 60 s.
    pub close_wait: Duration,
    /// Both ends have sent a FIN; default 30 s.
    pub last_ack: Duration,
    /// Both were acknowledged; default 120 s.
    pub time_wait: Duration,
    /// One end has reset the connection; default 10 s.
    pub closed: Duration,
    /// At most this long while an end repeats itself or its window is closed; default 300 s.
    pub retransmitting: Duration,
    /// At most this long while data is not acknowledged; default 300 s.
    pub unacknowledged: Duration,
}

/// A time-out that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time-out {name} is {value:?}: expected from 1ms to {TIMEOUT_MAX:?}")]
pub struct TimeoutError {
    /// Which it is.
    pub name: &'static str,
    /// What it is.
    pub value: Duration,
}

impl Timeouts {
    /// Whether each is in its bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), TimeoutError> {
        let tcp = &self.tcp;
        let all = [
            ("udp_unreplied", self.udp_unreplied),
            ("udp_replied", self.udp_replied),
            ("icmp", self.icmp),
            ("other", self.other),
            ("tcp.syn_sent", tcp.syn_sent),
            ("tcp.syn_received", tcp.syn_received),
            ("tcp.established", tcp.established),
            ("tcp.fin_wait", tcp.fin_wait),
            ("tcp.close_wait", tcp.close_wait),
            ("tcp.last_ack", tcp.last_ack),
            ("tcp.time_wait", tcp.time_wait),
            ("tcp.closed", tcp.closed),
            ("tcp.retransmitting", tcp.retransmitting),
            ("tcp.unacknowledged", tcp.unacknowledged),
        ];
        let bounds = Duration::from_millis(1)..=TIMEOUT_MAX;
        match all.into_iter().find(|(_, value)| !bounds.contains(value)) {
            Some((name, value)) => Err(TimeoutError { name, value }),
            None => Ok(()),
        }
    }
}

impl TcpTimeouts {
    /// That of a state by itself.
    pub(super) fn of(&self, state: State) -> Duration {
        match state {
            State::SynSent | State::BothSynSent => self.syn_sent,
            State::SynReceived => self.syn_received,
            State::Established => self.established,
            State::FinWait => self.fin_wait,
            State::CloseWait => self.close_wait,
            State::LastAck => self.last_ack,
            State::TimeWait => self.time_wait,
            State::Closed => self.closed,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: TcpTimeouts::default(),
            udp_unreplied: Duration::from_secs(30),
            udp_replied: Duration::from_secs(120),
            icmp: Duration::from_secs(30),
            other: Duration::from_secs(600),
        }
    }
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self {
            syn_sent: Duration::from_secs(120),
            syn_received: Duration::from_secs(60),
            established: Duration::from_secs(5 * 24 * 60 * 60),
            fin_wait: Duration::from_secs(120),
            close_wait: Duration::from_secs(60),
            last_ack: Duration::from_secs(30),
            time_wait: Duration::from_secs(120),
            closed: Duration::from_secs(10),
            retransmitting: Duration::from_secs(300),
            unacknowledged: Duration::from_secs(300),
        }
    }
}
