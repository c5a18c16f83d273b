//! A network device, as far as a port needs to know it.

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Step};
use crate::sys;

/// A network device of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    name: String,
    index: u32,
    mac: [u8; 6],
    mtu: u32,
    rx_queues: u32,
    tx_queues: u32,
    up: bool,
    carrier: bool,
}

impl Device {
    /// Finds a device by name.
    ///
    /// # Errors
    /// If there is none in this network namespace.
    pub fn find(name: &str) -> Result<Device, Error> {
        Query::new(name).and_then(|query| query.device(name)).map_err(failed(Step::Find, name))
    }

    /// Sets the device up if it is down, and finds it again.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn bring_up(self) -> Result<Device, Error> {
        if self.up {
            return Ok(self);
        }
        let failed = failed(Step::BringUp, &self.name);
        Query::new(&self.name).and_then(|query| query.bring_up()).map_err(failed)?;
        Device::find(&self.name)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The Ethernet address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Longest IP packet in bytes: a frame less its Ethernet header.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Number of receive queues, at least 1.
    #[must_use]
    pub fn rx_queues(&self) -> u32 {
        self.rx_queues
    }

    /// Number of transmit queues, at least 1.
    #[must_use]
    pub fn tx_queues(&self) -> u32 {
        self.tx_queues
    }

    /// Whether the device was up when it was found.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether the device was up and had a carrier when it was found: frames can leave.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.carrier
    }
}

fn failed(step: Step, name: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let place = name.to_owned();
    move |source| Error::Step { step, place, source }
}

/// A socket to ask about a device, and the request.
pub(crate) struct Query {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl Query {
    pub(crate) fn new(name: &str) -> io::Result<Query> {
        let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        let bytes = name.as_bytes_with_nul();
        if bytes.len() > libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        // SAFETY: a structure of integers and a raw pointer, for which zero bits are a value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes no pointers.
        let socket = sys::owned(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
        Ok(Query { socket, request })
    }

    fn device(&self, name: &str) -> io::Result<Device> {
        // SAFETY: SIOCGIFINDEX fills in this member.
        let index = unsafe { self.ask(libc::SIOCGIFINDEX)?.ifr_ifru.ifru_ifindex };
        // SAFETY: SIOCGIFMTU fills in this member.
        let mtu = unsafe { self.ask(libc::SIOCGIFMTU)?.ifr_ifru.ifru_mtu };
        // SAFETY: SIOCGIFHWADDR fills in this member.
        let address = unsafe { self.ask(libc::SIOCGIFHWADDR)?.ifr_ifru.ifru_hwaddr };
        let mac = std::array::from_fn(|byte| address.sa_data[byte] as u8);
        let (rx_queues, tx_queues) = self.queues()?;
        let flags = self.flags()?;
        let up = flags & libc::IFF_UP as libc::c_short != 0;
        let carrier = up && flags & libc::IFF_RUNNING as libc::c_short != 0;
        let (index, mtu) = (index as u32, mtu as u32);
        Ok(Device { name: name.into(), index, mac, mtu, rx_queues, tx_queues, up, carrier })
    }

    fn flags(&self) -> io::Result<libc::c_short> {
        // SAFETY: SIOCGIFFLAGS fills in this member.
        Ok(unsafe { self.ask(libc::SIOCGIFFLAGS)?.ifr_ifru.ifru_flags })
    }

    fn bring_up(mut self) -> io::Result<()> {
        self.request.ifr_ifru.ifru_flags = self.flags()? | libc::IFF_UP as libc::c_short;
        self.ask(libc::SIOCSIFFLAGS).map(drop)
    }

    /// Numbers of receive and transmit queues; a device that cannot say has one of each.
    fn queues(&self) -> io::Result<(u32, u32)> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        // SAFETY: the structure is what this command fills in.
        match unsafe { self.ethtool((&raw mut channels).cast()) } {
            Ok(()) => Ok((
                (channels.rx + channels.combined).max(1),
                (channels.tx + channels.combined).max(1),
            )),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok((1, 1)),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel carry out a command of ethtool.
    ///
    /// # Safety
    /// `command` points to one, with room for all that its answer may be.
    pub(crate) unsafe fn ethtool(&self, command: *mut libc::c_void) -> io::Result<()> {
        let mut request = self.request;
        request.ifr_ifru.ifru_data = command.cast();
        let socket = self.socket.as_raw_fd();
        // SAFETY: the request lives for the time of the call, and what it points to has room for the
        // answer: promised by the caller.
        let answer = unsafe { libc::ioctl(socket, libc::SIOCETHTOOL, &raw mut request) };
        sys::check(answer)
    }

    fn ask(&self, what: libc::c_ulong) -> io::Result<libc::ifreq> {
        let mut request = self.request;
        // SAFETY: the requests made here read and write the structure only, which lives for the
        // time of the call.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), what, &raw mut request) };
        sys::check(answer).map(|()| request)
    }
}

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`.
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found() {
        let device = Device::find("lo").unwrap();
        assert_eq!((device.name(), device.mac()), ("lo", [0; 6]));
        assert_eq!((device.rx_queues(), device.tx_queues()), (1, 1));
        assert!(device.index() > 0 && device.mtu() > 0);
        assert!(device.is_up() || !device.has_carrier());
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        for name in ["nosuchdevice", "a-name-that-is-longer-than-any", "nul\0", ""] {
            let text = Device::find(name).unwrap_err().to_string();
            assert!(text.contains("no such device in this network namespace"), "{text}");
        }
    }
}
