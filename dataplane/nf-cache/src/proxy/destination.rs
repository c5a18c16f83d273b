//! Where a request goes: the addresses of a host, whether it may go there, and the connection.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout_at;
use tracing::debug;

use super::refusal::Refusal;
use crate::clock;
use crate::settings::Settings;

/// A TCP connection to a host and port. To find it and to connect have the time of an origin
/// together.
pub(crate) async fn connect_to(
    to: &(String, u16),
    settings: &Settings,
) -> Result<TcpStream, Refusal> {
    let until = (clock::now() + settings.limits.upstream).into();
    let found = timeout_at(until, addresses(to)).await;
    let addresses = found.map_err(|_| Refusal::DnsTimeout)??;
    // What is connected to is what was looked at: a name may lead elsewhere the next time.
    if !settings.to_local && addresses.iter().any(|address| is_local(address.ip())) {
        return Err(Refusal::ToLocal);
    }
    let connected = timeout_at(until, TcpStream::connect(&addresses[..])).await;
    let stream = connected.map_err(|_| Refusal::ConnectTimeout)?;
    let stream = stream.map_err(|error| {
        debug!("{}:{}: {error}", to.0, to.1);
        not_connected(error.kind())
    })?;
    stream.set_nodelay(true).map_err(|_| Refusal::Unreachable)?;
    Ok(stream)
}

/// All addresses of a host, one at least.
async fn addresses((host, port): &(String, u16)) -> Result<Vec<SocketAddr>, Refusal> {
    let found = lookup_host((host.as_str(), *port)).await.map_err(|error| {
        debug!("{host}: {error}");
        Refusal::Dns
    })?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() { Err(Refusal::Dns) } else { Ok(addresses) }
}

/// Why there is no connection, by what the system says of the address that was tried last.
fn not_connected(kind: ErrorKind) -> Refusal {
    match kind {
        ErrorKind::ConnectionRefused => Refusal::ConnectionRefused,
        ErrorKind::TimedOut => Refusal::ConnectTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Refusal::Unroutable,
        _ => Refusal::Unreachable,
    }
}

/// Whether an address is of this machine or of a link of it, where others are not meant to get to:
/// loopback, unspecified, which leads to this machine too, and link-local (RFC 6890, sections 2.2.2
/// and 2.2.3), also as IPv6 addresses that have an IPv4 address in them (RFC 4291, section 2.5.5).
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0 || v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.to_ipv4().is_some_and(|v4| is_local(v4.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn what_the_system_says_of_a_connection_is_told_by_name() {
        for (code, expected) in [
            (libc::ECONNREFUSED, Refusal::ConnectionRefused),
            (libc::ETIMEDOUT, Refusal::ConnectTimeout),
            (libc::EHOSTUNREACH, Refusal::Unroutable),
            (libc::ENETUNREACH, Refusal::Unroutable),
            (libc::EACCES, Refusal::Unreachable),
        ] {
            assert_eq!(not_connected(Error::from_raw_os_error(code).kind()), expected, "{code}");
        }
    }

    #[test]
    fn addresses_of_this_machine_and_of_its_links_are_told_from_others() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("127.255.255.254", true),
            ("0.0.0.0", true),
            ("169.254.169.254", true),
            ("::", true),
            ("::1", true),
            ("fe80::1", true),
            ("febf::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:0.0.0.0", true),
            ("::ffff:169.254.1.1", true),
            ("::127.0.0.1", true),
            ("128.0.0.1", false),
            ("10.0.5.9", false),
            ("169.253.1.1", false),
            ("192.168.0.1", false),
            ("::ffff:10.0.5.9", false),
            ("fec0::1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_local(text.parse().expect("an address")), expected, "{text}");
        }
    }
}
