//! The ladder of ways to receive, from the fastest to the one that every device has.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use weir_frame::{FrameSize, HugePages, Region};

use crate::device::Device;
use crate::error::{Step, meaning};
use crate::sys;
use crate::umem::{RingSizes, register};

/// How packets get from a device into the UMEM, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The program runs in the driver, and the device writes into the UMEM.
    ZeroCopy,
    /// The program runs in the driver, and the kernel copies into the UMEM.
    Copy,
    /// The program runs behind the driver, and the kernel copies: slow, but on any device.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Mode::ZeroCopy => "native zero-copy",
            Mode::Copy => "native copy",
            Mode::Generic => "generic copy",
        })
    }
}

/// What came of trying one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeNote {
    /// The mode tried.
    pub step: Mode,
    /// The error that the kernel refused it with; none if it works.
    pub errno: Option<i32>,
    /// What that means, in words.
    pub meaning: String,
}

impl ProbeNote {
    fn works(step: Mode) -> ProbeNote {
        ProbeNote { step, errno: None, meaning: "works".into() }
    }

    fn refused(step: Mode, refusal: &Refusal) -> ProbeNote {
        let Refusal { at, error } = refusal;
        ProbeNote {
            step,
            errno: error.raw_os_error(),
            meaning: format!("{at}: {}", meaning(*at, error)),
        }
    }
}

impl fmt::Display for ProbeNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.step, self.meaning)?;
        match self.errno {
            Some(errno) => write!(formatter, " (errno {errno})"),
            None => Ok(()),
        }
    }
}

/// What refused a mode, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) at: Step,
    pub(crate) error: io::Error,
}

/// What the ladder climbs on: the device, or a test in its place.
pub(crate) trait Ground {
    /// An attached program.
    type Link;
    /// Attaches the program, natively or generically.
    fn attach(&mut self, generic: bool) -> Result<Self::Link, Refusal>;
    /// Tries a zero-copy socket beside the attached program.
    fn zero_copy(&mut self) -> Result<(), Refusal>;
}

/// Tries the modes from `best` on, and stays at the first that works.
///
/// # Errors
/// What refused the last mode.
pub(crate) fn climb<G: Ground>(
    ground: &mut G,
    best: Mode,
) -> Result<(G::Link, Mode, Vec<ProbeNote>), Refusal> {
    let mut notes = Vec::new();
    if best <= Mode::Copy {
        match ground.attach(false) {
            Ok(link) => {
                if best == Mode::ZeroCopy {
                    let Err(refusal) = ground.zero_copy() else {
                        notes.push(ProbeNote::works(Mode::ZeroCopy));
                        return Ok((link, Mode::ZeroCopy, notes));
                    };
                    notes.push(ProbeNote::refused(Mode::ZeroCopy, &refusal));
                }
                notes.push(ProbeNote::works(Mode::Copy));
                return Ok((link, Mode::Copy, notes));
            }
            Err(refusal) => {
                let native = [Mode::ZeroCopy, Mode::Copy].into_iter().filter(|mode| *mode >= best);
                notes.extend(native.map(|mode| ProbeNote::refused(mode, &refusal)));
            }
        }
    }
    let link = ground.attach(true)?;
    notes.push(ProbeNote::works(Mode::Generic));
    Ok((link, Mode::Generic, notes))
}

/// Binds a socket with a small UMEM of its own to queue 0 of `device`, for zero-copy.
pub(crate) fn zero_copy(device: &Device) -> Result<(), Refusal> {
    bind_spare(device.index(), 0, libc::XDP_ZEROCOPY)
}

/// Waits until `queue` of a device can be bound anew, or the device is gone: then the kernel and
/// the driver have let go of the chunks of the socket that was closed there. Says whether they
/// have within a second.
pub(crate) fn is_released(device: u32, queue: u32) -> bool {
    match bind_spare(device, queue, libc::XDP_COPY) {
        Ok(()) => true,
        Err(Refusal { at, error }) => {
            at == Step::Bind && error.raw_os_error() == Some(libc::ENODEV)
        }
    }
}

fn bind_spare(device: u32, queue: u32, flags: u16) -> Result<(), Refusal> {
    const FRAMES: u32 = 64;
    let at = |at| move |error| Refusal { at, error };
    let (region, _frames) =
        Region::anonymous(FRAMES, FrameSize::B4096, HugePages::Off).map_err(at(Step::Umem))?;
    let fd = sys::socket().map_err(at(Step::Socket))?;
    register(fd.as_fd(), &region).map_err(at(Step::Umem))?;
    let sizes = RingSizes { rx: FRAMES, fill: FRAMES, tx: FRAMES, completion: FRAMES };
    sizes.set(fd.as_fd()).map_err(at(Step::Rings))?;
    let flags = flags | libc::XDP_USE_NEED_WAKEUP;
    sys::while_busy(|| sys::bind(fd.as_fd(), device, queue, flags, None)).map_err(at(Step::Bind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that refuses what it is told to.
    struct Fake {
        native: Option<i32>,
        zero_copy: Option<i32>,
        generic: Option<i32>,
    }

    fn refuse(at: Step, errno: Option<i32>) -> Result<(), Refusal> {
        errno.map_or(Ok(()), |e| Err(Refusal { at, error: io::Error::from_raw_os_error(e) }))
    }

    impl Ground for Fake {
        type Link = ();

        fn attach(&mut self, generic: bool) -> Result<(), Refusal> {
            refuse(Step::Attach, if generic { self.generic } else { self.native })
        }

        fn zero_copy(&mut self) -> Result<(), Refusal> {
            refuse(Step::Bind, self.zero_copy)
        }
    }

    fn notes(notes: &[ProbeNote]) -> Vec<(Mode, Option<i32>)> {
        notes.iter().map(|note| (note.step, note.errno)).collect()
    }

    #[test]
    fn the_first_mode_that_works_is_taken_and_each_refusal_noted() {
        let mut veth = Fake { native: None, zero_copy: Some(libc::EOPNOTSUPP), generic: None };
        let ((), mode, said) = climb(&mut veth, Mode::ZeroCopy).unwrap();
        assert_eq!(mode, Mode::Copy);
        let expected = [(Mode::ZeroCopy, Some(libc::EOPNOTSUPP)), (Mode::Copy, None)];
        assert_eq!(notes(&said), expected);
        assert_eq!(said[0].meaning, "bind the AF_XDP socket: the driver has no zero-copy");

        let errno = Some(libc::ERANGE);
        let mut jumbo = Fake { native: errno, zero_copy: None, generic: None };
        let ((), mode, said) = climb(&mut jumbo, Mode::ZeroCopy).unwrap();
        assert_eq!(mode, Mode::Generic);
        let expected = [(Mode::ZeroCopy, errno), (Mode::Copy, errno), (Mode::Generic, None)];
        assert_eq!(notes(&said), expected);
        assert!(said[1].to_string().contains("MTU"), "{}", said[1]);

        let mut nic = Fake { native: None, zero_copy: None, generic: None };
        assert_eq!(climb(&mut nic, Mode::ZeroCopy).unwrap().1, Mode::ZeroCopy);
    }

    #[test]
    fn modes_better_than_asked_for_are_not_tried() {
        let mut nic = Fake { native: None, zero_copy: None, generic: None };
        let ((), mode, said) = climb(&mut nic, Mode::Copy).unwrap();
        assert_eq!((mode, said.len()), (Mode::Copy, 1));
        let ((), mode, said) = climb(&mut nic, Mode::Generic).unwrap();
        assert_eq!((mode, said.len()), (Mode::Generic, 1));
    }

    #[test]
    fn a_device_that_takes_nothing_is_refused_with_the_last_reason() {
        let mut none =
            Fake { native: Some(libc::EINVAL), zero_copy: None, generic: Some(libc::EPERM) };
        let refusal = climb(&mut none, Mode::ZeroCopy).unwrap_err();
        assert_eq!(refusal.error.raw_os_error(), Some(libc::EPERM));
    }
}
